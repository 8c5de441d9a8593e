"""Commands, waits, locks and progress, as every module of the lab needs them."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_LOCK_SECONDS = 900  # a first `up` with its images takes about 250


class LabError(Exception):
    """One sentence for the person at the terminal: what is wrong and how to fix it."""


def say(text: str) -> None:
    """Progress for a person; standard output is kept for results."""
    print(f"lab: {text}\n", end="", file=sys.stderr, flush=True)  # one write: threads speak too


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say what begins and, at its end, how many seconds it took."""
    say(f"{what} …")
    start = time.monotonic()
    yield
    say(f"{what}: {time.monotonic() - start:.1f} s")


def run(command: Sequence[str], *, seconds: float = 60) -> str:
    """Standard output of a command; raises `LabError` when it fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=True)
    except FileNotFoundError:
        raise LabError(f"`{command[0]}` is missing. `python -m lab up` installs it") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"`{' '.join(command)}` did not end within {seconds:.0f} s") from None
    except subprocess.CalledProcessError as error:
        detail = tail(error.stderr or error.stdout) or f"exit status {error.returncode}"
        raise LabError(f"`{' '.join(command)}` failed: {detail}") from None
    return done.stdout


def wait_for(what: str, ready: Callable[[], bool], *, seconds: float) -> None:
    """Poll until `ready`; raises `LabError` naming `what` when the time is up."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise LabError(f"{what} did not happen within {seconds:.0f} s")
        time.sleep(0.05)


@contextmanager
def only_one(directory: Path, *, seconds: float = _LOCK_SECONDS) -> Iterator[None]:
    """Keep a second command out; `LabError` when the first does not end in time."""
    if sys.platform != "linux":
        yield  # such sockets are Linux's, and so is the lab
        return
    # An address in no directory: it goes with its process and leaves no file behind.
    with socket.socket(socket.AF_UNIX) as lock:
        _wait_for_turn(lock, f"\0{directory}", seconds)
        yield


def _wait_for_turn(lock: socket.socket, address: str, seconds: float) -> None:
    if not _is_bound(lock, address):
        say("waiting for another lab command to end")
        wait_for(
            "the end of another lab command", lambda: _is_bound(lock, address), seconds=seconds
        )


def _is_bound(lock: socket.socket, address: str) -> bool:
    try:
        lock.bind(address)
    except OSError:
        return False
    return True


def tail(text: str, lines: int = 5) -> str:
    """The last lines of a log that say something."""
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])
