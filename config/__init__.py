"""What a stack may say: its settings, read, checked and typed before anything is touched."""
