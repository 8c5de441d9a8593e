"""The deadline of the whole probe, and the pause between two attempts."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from . import UnprovenError

PAUSE_SECONDS = 0.1


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise `UnprovenError` in the block after `seconds`; for the main thread only.

    It uses an alarm: a connection that loses large packets can block any call to the scheduler.
    """

    def expire(*_: object) -> None:
        raise UnprovenError("not proven in time")

    previous = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
