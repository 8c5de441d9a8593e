"""A second process that removes the one-shot service when the launcher cannot any more.

Pulumi ends a cancelled command with SIGKILL, which nothing can catch.
"""

import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from swarm.manager import MANAGER_ERRORS, Manager

PATIENCE_SECONDS = 60  # beyond the launcher's deadline; then it hangs and counts as dead
ATTEMPTS = 20  # a request to create the service may still be under way when the launcher dies
ATTEMPT_PAUSE = 0.5

_DONE = b"."


@contextmanager
def guarded(service_name: str, seconds: float) -> Iterator[Callable[[], None]]:
    """Have the service removed when this process ends, unless the function yielded is called.

    Also when this process is still there `PATIENCE_SECONDS` after `seconds`. Enter before any
    thread is started: it forks.
    """
    heard, line = os.pipe()
    if os.fork() == 0:
        os.close(line)
        _watch(heard, service_name, seconds + PATIENCE_SECONDS)
    os.close(heard)

    def dismiss() -> None:
        with suppress(BrokenPipeError):
            os.write(line, _DONE)

    try:
        yield dismiss
    finally:
        os.close(line)


def _watch(heard: int, service_name: str, seconds: float) -> None:
    try:
        _detach(heard)
        ready, _, _ = select.select([heard], [], [], seconds)
        # The launcher's end closes the line, which reads as nothing.
        if not (ready and os.read(heard, 1) == _DONE):
            _remove(service_name)
    finally:
        os._exit(0)


def _detach(heard: int) -> None:
    os.setsid()
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    # Whoever started the launcher waits until nobody holds the other ends of its pipes.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    os.closerange(3, heard)
    os.closerange(heard + 1, os.sysconf("SC_OPEN_MAX"))


def _remove(service_name: str) -> None:
    for _ in range(ATTEMPTS):
        with suppress(*MANAGER_ERRORS):
            if Manager().remove(service_name):
                return
        time.sleep(ATTEMPT_PAUSE)
