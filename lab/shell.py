"""Commands, waits and progress, as every module of the lab needs them."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager


class LabError(Exception):
    """One sentence for the person at the terminal: what is wrong and what cures it."""


def say(text: str) -> None:
    """Progress for a person; standard output is kept for results."""
    print(f"lab: {text}\n", end="", file=sys.stderr, flush=True)  # one write: threads speak too


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say what begins, and afterwards how many seconds it took."""
    say(f"{what} …")
    start = time.monotonic()
    yield
    say(f"{what}: {time.monotonic() - start:.1f} s")


def run(command: Sequence[str], *, seconds: float = 60) -> str:
    """Standard output of a command; raises `LabError` when it fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=True)
    except FileNotFoundError:
        raise LabError(f"`{command[0]}` is missing: `python -m lab up` installs it") from None
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


def tail(text: str, lines: int = 5) -> str:
    """The last lines of a log that say something."""
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])
