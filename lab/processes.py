"""The programs that the lab starts and leaves running, and their end.

A program joins a control group before it starts. What it starts stays in the group, so that the
end of the group leaves no process behind, whatever became of the program.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lab.shell import LabError, tail, wait_for

CGROUPS = Path("/sys/fs/cgroup")
_JOIN = 'echo $$ > "$0" && exec "$@"'


@dataclass(frozen=True, kw_only=True)
class Daemon:
    """A program that was just started; its log tells why it ended."""

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
            raise LabError(f"{self.what} ended at once; the end of {self.log}:\n{last}")


def start(what: str, command: Sequence[str], log: Path, cgroup: str) -> Daemon:
    """Start a program in a control group; it outlives this program and writes to `log`."""
    group = _group(cgroup)
    group.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["sh", "-c", _JOIN, str(group / "cgroup.procs"), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
            env=_plain_environment(),
        )
    return Daemon(what=what, process=process, log=log)


def end(cgroup: str) -> None:
    """Kill all processes of a control group; `LabError` if a process stays for 20 s."""

    def all_gone() -> bool:
        pids = running(cgroup)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not pids

    wait_for(f"the end of every process in the control group {cgroup}", all_gone, seconds=20)


def running(cgroup: str) -> set[int]:
    """Process ids in a control group and in the groups below it."""
    tops = cgroup_directories(cgroup)
    files = [Path(folder) / "cgroup.procs" for top in tops for folder, _, _ in os.walk(top)]
    return {int(pid) for file in files for pid in _read(file).split()}


def cgroup_directories(cgroup: str) -> list[Path]:
    """Where a control group lies: one place for version 2, one per controller for version 1."""
    name = cgroup.lstrip("/")
    return [path for path in (CGROUPS / name, *CGROUPS.glob(f"*/{name}")) if path.is_dir()]


def remove_cgroups(cgroup: str) -> None:
    """Remove a control group without processes; `LabError` if it stays for 20 s."""

    def removed() -> bool:
        for top in cgroup_directories(cgroup):
            for folder, _, _ in os.walk(top, topdown=False):
                with suppress(OSError):  # busy while its last process is taken apart
                    Path(folder).rmdir()
        return not cgroup_directories(cgroup)

    wait_for(f"the removal of the control group {cgroup}", removed, seconds=20)


def _group(cgroup: str) -> Path:
    # Of version 1, the controller that every engine needs and that takes no part in scheduling.
    top = CGROUPS if (CGROUPS / "cgroup.procs").exists() else CGROUPS / "devices"
    return top / cgroup.lstrip("/")


def _read(file: Path) -> str:
    with suppress(OSError):  # its group has ended
        return file.read_text()
    return ""


def _plain_environment() -> dict[str, str]:
    """The environment without what would send a Docker program elsewhere."""
    return {key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")}
