"""When a lab command may run: on Linux, as root, and only one at a time."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.shell import LabError, say, wait_for

_PATIENCE = 900  # seconds; a first `up` with its images takes about 250


class RefusedError(LabError):
    """The command cannot work here, whatever is tried."""


def check_machine() -> None:
    """Raise `RefusedError` where there are no network namespaces or no right to make them."""
    if sys.platform != "linux":
        raise RefusedError(
            "the lab is made of Linux network namespaces: here, start Docker Desktop and run"
            " `python -m lab ready`"
        )
    if os.geteuid() != 0:
        raise RefusedError(
            "the lab makes network namespaces: run this as root, or start a Docker engine and run"
            " `python -m lab ready`"
        )


@contextmanager
def only_one(directory: Path, *, seconds: float = _PATIENCE) -> Iterator[None]:
    """Keep a second command out; `LabError` when the first is not done in time."""
    if sys.platform != "linux":
        yield  # no lab to be kept from itself
        return
    # An address in no directory: it goes with its process and leaves no file behind.
    with socket.socket(socket.AF_UNIX) as lock:
        _wait_for_turn(lock, f"\0{directory}", seconds)
        yield


def _wait_for_turn(lock: socket.socket, address: str, seconds: float) -> None:
    if not _bound(lock, address):
        say("waiting for another lab command to end")
        wait_for("the end of another lab command", lambda: _bound(lock, address), seconds=seconds)


def _bound(lock: socket.socket, address: str) -> bool:
    try:
        lock.bind(address)
    except OSError:
        return False
    return True
