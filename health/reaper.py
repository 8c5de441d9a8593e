"""The reaper: a second process that removes the probe's service if the launcher dies.

Pulumi ends a cancelled command with SIGKILL, which the launcher cannot catch.
"""

import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from health.timing import TIMING, Timing
from swarm.manager import MANAGER_ERRORS, Manager

ATTEMPTS = 20  # a request to create the service may still be under way when the launcher dies

_DISMISSED = b"."


@contextmanager
def reaper(
    service_name: str, seconds: float, timing: Timing = TIMING
) -> Iterator[Callable[[], None]]:
    """Remove the service when this process ends, unless the yielded function is called.

    Remove it also if this process has not ended `reaper_grace` after `seconds`. Enter this before
    any thread starts: it forks.
    """
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        os.close(write_end)
        _wait(read_end, service_name, seconds + timing.reaper_grace, timing.reaper_pause)
    os.close(read_end)

    def dismiss() -> None:
        with suppress(BrokenPipeError):
            os.write(write_end, _DISMISSED)

    try:
        yield dismiss
    finally:
        os.close(write_end)


def _wait(pipe: int, service_name: str, seconds: float, pause: float) -> None:
    try:
        _detach(pipe)
        ready, _, _ = select.select([pipe], [], [], seconds)
        # The launcher's end closes the pipe, which reads as nothing.
        if not (ready and os.read(pipe, 1) == _DISMISSED):
            _remove(service_name, pause)
    finally:
        os._exit(0)


def _detach(pipe: int) -> None:
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # The launcher's parent waits until all copies of the launcher's pipes are closed.
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.closerange(3, pipe)
    os.closerange(pipe + 1, os.sysconf("SC_OPEN_MAX"))


def _remove(service_name: str, pause: float) -> None:
    for _ in range(ATTEMPTS):
        with suppress(*MANAGER_ERRORS):
            if Manager().remove(service_name):
                return
        time.sleep(pause)
