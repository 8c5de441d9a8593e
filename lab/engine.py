"""The lab's Docker engines, started by hand: the packaged service stays as it is."""

import json
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from shutil import rmtree
from typing import Any

import docker
from docker.errors import DockerException
from requests.exceptions import RequestException

from lab import processes
from lab.layout import Engine
from lab.shell import LabError, say, tail
from swarm import client as remote

ANSWER_SECONDS = 30
# Engines keep sockets and mounts under /run, where no setting moves them. So every engine has a
# /run that ends with it. The list of name servers may be a link into the /run that it covers.
_SCRIPT = """
set -e
hostname "$1"
names=$(cat /etc/resolv.conf)
file=$(readlink -f /etc/resolv.conf)
mount -t tmpfs tmpfs /run
mkdir -p /run/docker "$(dirname "$file")"
test -e "$file" || echo "$names" > "$file"
exec dockerd --config-file "$2"
"""
# `chroot` would not do: the engine remounts its root when it unpacks a layer.
_SCRIPT_IN_ROOT = """
set -e
hostname "$1"
directory=$(dirname "$2")
mount --bind "$3" "$3"
for part in proc sys dev; do mount --rbind "/$part" "$3/$part"; done
mount -t tmpfs tmpfs "$3/run"
mkdir -p /run/docker "$3/run/docker" "$3/$directory" "$3/old"
mount --bind "$directory" "$3/$directory"
cat /etc/resolv.conf > "$3/run/resolv.conf"
touch "$3/etc/resolv.conf"
mount --bind "$3/run/resolv.conf" "$3/etc/resolv.conf"
cd "$3"
pivot_root . old
umount --lazy /old
exec dockerd --config-file "$2"
"""


def connect(address: str, *, seconds: int = ANSWER_SECONDS) -> "docker.APIClient":
    """A client for exactly this address: DOCKER_HOST and the like do not count."""
    return remote.connect(address, seconds=seconds)


def answers(address: str, *, seconds: int = 5) -> bool:
    """Whether an engine answers there in time."""
    if address.startswith("unix://") and not _accepts(address.removeprefix("unix://")):
        return False
    try:
        with connect(address, seconds=seconds) as engine:
            return bool(engine.ping())
    except (DockerException, RequestException):
        return False


def _accepts(path: str) -> bool:
    """Whether a program listens; where none does, the client would leave its socket open."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5)
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def start_engines(engines: Sequence[Engine], **settings: object) -> None:
    """Start the engines that do not answer, side by side; `LabError` when one does not come up."""
    silent = [
        engine for engine in engines if not answers(engine.docker_host, seconds=ANSWER_SECONDS)
    ]
    daemons = [(engine, _start(engine, settings)) for engine in silent]
    for engine, daemon in daemons:
        daemon.wait(lambda address=engine.docker_host: answers(address), seconds=60)  # type: ignore[misc]


def follow(progress: Iterable[dict[str, Any]], what: str) -> None:
    """Say the steps of a build, pull or push; `LabError` with the last output when it fails."""
    output = ""
    for message in progress:
        text = message.get("stream", "")
        output += text
        if text.startswith("Step "):
            say(text.strip())
        if "error" in message:
            raise LabError(f"{what}: {message['error']}\n{tail(output, 15)}")


def _start(engine: Engine, settings: dict[str, object]) -> processes.Daemon:
    processes.end(engine.cgroup)
    state = engine.directory / "run"
    rmtree(state, ignore_errors=True)
    state.mkdir(parents=True)
    config = engine.directory / "daemon.json"
    config.write_text(json.dumps(_config(engine, state) | settings, indent=2))
    command = [
        *engine.inside,
        *("unshare", "--uts", "--mount"),
        *("sh", "-c", _SCRIPT_IN_ROOT if engine.root else _SCRIPT),
        *("sh", engine.hostname, str(config), str(engine.root)),
    ]
    return processes.start(
        f"the engine {engine.name}",
        command,
        engine.directory / "engine.log",
        f"{engine.cgroup}/engine",
    )


def _config(engine: Engine, state: Path) -> dict[str, object]:
    return {
        "data-root": str(engine.directory / "data"),
        "exec-root": str(state / "exec"),
        "pidfile": str(state / "docker.pid"),
        "hosts": [engine.docker_host],
        "cgroup-parent": engine.cgroup,
        # systemd's driver would put containers into slices that outlive the lab.
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
    }
