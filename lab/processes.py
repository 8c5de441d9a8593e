"""The lab's processes, found by what they are, so that a lost pid file leaves none behind."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lab.layout import CGROUPS
from lab.shell import wait_for

_PROGRAMS = {
    "containerd",
    "containerd-shim-runc-v2",
    "debootstrap",
    "docker-proxy",
    "docker-registry",
    "dockerd",
    "nameserver.py",
    "runc",
}
_WORDS_THAT_NAME = 2  # `/bin/sh /usr/sbin/debootstrap`: the second word names the program


def end(directory: Path, cgroup: str) -> None:
    """Kill what runs from a directory or in a control group; `LabError` if it stays for 20 s."""

    def all_gone() -> bool:
        owned = list(owned_by(directory, cgroup))
        for pid in owned:
            _kill(pid, directory, cgroup)
        return not owned

    wait_for(f"the end of every process under {directory}", all_gone, seconds=20)


def running(file: Path) -> list[int]:
    """Process ids of the lab's programs that were started with this file as an argument."""
    return [pid for pid in _all() if _is_program(words := _words(pid)) and str(file) in words]


def owned_by(directory: Path, cgroup: str) -> list[int]:
    """Process ids of what runs from a directory or in a control group, containers included."""
    return [pid for pid in _all() if _is_owned(pid, directory, cgroup)]


def cgroup_directories(cgroup: str) -> list[Path]:
    """Where a control group lies: one place for version 2, one per controller for version 1."""
    name = cgroup.lstrip("/")
    return [path for path in (CGROUPS / name, *CGROUPS.glob(f"*/{name}")) if path.is_dir()]


def _kill(pid: int, directory: Path, cgroup: str) -> None:
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            # The number may have passed to a stranger before the handle was taken.
            if _is_owned(pid, directory, cgroup):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)


def _all() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _is_owned(pid: int, directory: Path, cgroup: str) -> bool:
    words = _words(pid)
    if not any(words):
        return False  # a zombie, a kernel thread, or gone
    inside = f"{directory}/"
    started_here = _is_program(words) and any(inside in word for word in words)
    return started_here or _is_in(pid, cgroup) or _root(pid).startswith(inside)


def _is_program(words: list[str]) -> bool:
    return not _PROGRAMS.isdisjoint(Path(word).name for word in words[:_WORDS_THAT_NAME])


def _is_in(pid: int, cgroup: str) -> bool:
    lines = _read(pid, "cgroup").splitlines()
    return any(f"{line.split(':', 2)[2]}/".startswith(f"{cgroup}/") for line in lines)


def _words(pid: int) -> list[str]:
    return _read(pid, "cmdline").split("\0")


def _root(pid: int) -> str:
    with suppress(OSError):
        return str(Path(f"/proc/{pid}/root").readlink())
    return ""


def _read(pid: int, name: str) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    return ""
