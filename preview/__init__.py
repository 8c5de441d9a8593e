"""What a pull request is told: what would change, what was taken unasked, which rules hold."""
