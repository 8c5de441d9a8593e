"""Progress as plain lines on standard error."""

import sys
import time

PAUSE_SECONDS = 2


class Progress:
    """Prints changes with the seconds since the start, at most every two seconds."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self._printed = ""
        self._printed_at = -float("inf")

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def update(self, text: str) -> None:
        """Print `text` unless it is the last printed text or comes too soon after it."""
        if text == self._printed or time.monotonic() < self._printed_at + PAUSE_SECONDS:
            return
        self.log(text)

    def log(self, text: str) -> None:
        """Print `text`."""
        self._printed, self._printed_at = text, time.monotonic()
        print(f"{self.elapsed:5.1f} s  {text}", file=sys.stderr, flush=True)
