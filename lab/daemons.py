"""Programs that the lab starts and leaves running."""

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.shell import LabError, tail, wait_for


@dataclass(frozen=True, kw_only=True)
class Daemon:
    """A program that was just started; its log tells why it did not stay."""

    what: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def wait(self, ready: Callable[[], bool], *, seconds: float) -> None:
        """Wait until `ready`; raises `LabError` when the program ends or the time is up."""

        def ready_or_ended() -> bool:
            return ready() or self.process.poll() is not None

        wait_for(f"an answer of {self.what} (log: {self.log})", ready_or_ended, seconds=seconds)
        if self.process.poll() is not None:
            last = tail(self.log.read_text(errors="replace"))
            raise LabError(f"{self.what} ended at once; {self.log} says:\n{last}")


def start(what: str, command: Sequence[str], log: Path) -> Daemon:
    """Start a program that outlives this one and writes to `log`."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
            env=_plain_environment(),
        )
    return Daemon(what=what, process=process, log=log)


def _plain_environment() -> dict[str, str]:
    """The environment without what would send a Docker program elsewhere."""
    return {key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")}
