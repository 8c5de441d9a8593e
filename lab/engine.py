"""The lab's Docker engines, started by hand: the packaged service stays as it is."""

import json
import socket
from collections.abc import Sequence
from pathlib import Path
from shutil import rmtree

import docker
from docker.errors import DockerException
from requests.exceptions import RequestException

from lab import processes
from lab.daemons import Daemon, start
from lab.layout import Engine
from swarm import client as remote

ANSWER_SECONDS = 30
# Engines keep sockets and mounts under /run, at places that no setting moves: each gets a /run of
# its own, which ends with it. The list of name servers may be a link into the one it replaces.
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


def connect(address: str, *, seconds: int = ANSWER_SECONDS) -> "docker.APIClient":
    """A client for exactly this address, whatever the environment says of Docker hosts."""
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
    """Whether anyone listens; the client would leave its socket open when nobody does."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5)
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def start_engines(engines: Sequence[Engine], **settings: object) -> None:
    """Start those that do not answer, side by side; `LabError` when one does not come up."""
    silent = [each for each in engines if not answers(each.docker_host, seconds=ANSWER_SECONDS)]
    daemons = [(engine, _start(engine, settings)) for engine in silent]
    for engine, daemon in daemons:
        daemon.wait(lambda address=engine.docker_host: answers(address), seconds=60)  # type: ignore[misc]


def _start(engine: Engine, settings: dict[str, object]) -> Daemon:
    processes.end(engine.directory, engine.cgroup)
    state = engine.directory / "run"
    rmtree(state, ignore_errors=True)
    state.mkdir(parents=True)
    config = engine.directory / "daemon.json"
    config.write_text(json.dumps(_config(engine, state) | settings, indent=2))
    apart = [*engine.inside, "unshare", "--uts", "--mount"]
    script = ["sh", "-c", _SCRIPT, "sh", engine.hostname, str(config)]
    return start(f"the engine {engine.name}", [*apart, *script], engine.directory / "engine.log")


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
