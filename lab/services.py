"""What the nodes find on their network: a registry and a name server.

The registry is one storage, served on the loopback of every node and of this machine: then
`localhost:<port>` names the same images everywhere, as it will on a laptop; engines trust
`localhost` without further settings, and nothing is open to any network.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import nameserver, processes
from lab.daemons import Daemon, start
from lab.layout import Lab, Node


@dataclass(frozen=True, kw_only=True)
class _Service:
    """A program that listens; `file` sets it apart from others of its kind."""

    what: str
    command: tuple[str, ...]
    file: Path
    port: int
    table: str  # of /proc/net

    def listens(self) -> bool:
        pids = processes.running(self.file)
        return any(_has_port(Path(f"/proc/{pid}/net/{self.table}"), self.port) for pid in pids)

    def start(self) -> Daemon:
        return start(self.what, self.command, self.file.with_suffix(".log"))


def start_services(lab: Lab) -> None:
    """Start those that are missing; `LabError` when one does not come up within 20 s."""
    for directory in (lab.registry_directory, *(node.directory for node in lab.nodes)):
        directory.mkdir(parents=True, exist_ok=True)
    services = [_name_server(lab), _own_registry(lab), *(_registry(lab, n) for n in lab.nodes)]
    started = [(service, service.start()) for service in services if not service.listens()]
    for service, daemon in started:
        daemon.wait(service.listens, seconds=20)


def _name_server(lab: Lab) -> _Service:
    # A copy: it names the lab it belongs to and outlives the checkout.
    script = lab.directory / "nameserver.py"
    shutil.copy(nameserver.__file__, script)
    inside = ("nsenter", f"--net={lab.switch}")
    return _Service(
        what="the name server",
        command=(*inside, sys.executable, str(script), lab.name_server),
        file=script,
        port=53,
        table="udp",
    )


def _own_registry(lab: Lab) -> _Service:
    return _registry_in(lab, lab.registry_directory, "this machine", [])


def _registry(lab: Lab, node: Node) -> _Service:
    return _registry_in(lab, node.directory, node.name, node.inside)


def _registry_in(lab: Lab, directory: Path, name: str, inside: Sequence[str]) -> _Service:
    config = directory / "registry.yml"
    storage = lab.registry_directory / "storage"
    config.write_text(registry_config(storage, f"127.0.0.1:{lab.registry_port}"))
    return _Service(
        what=f"the registry for {name}",
        command=(*inside, "docker-registry", "serve", str(config)),
        file=config,
        port=lab.registry_port,
        table="tcp",
    )


def registry_config(storage: Path, address: str) -> str:
    """The settings of a registry that keeps images in `storage` and asks nobody for a password."""
    config = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(storage)}},
        "http": {"addr": address},
    }
    return json.dumps(config)  # JSON is YAML


def _has_port(table: Path, port: int) -> bool:
    """Whether a port is taken where a process lives; its namespace has tables of its own."""
    try:
        rows = [line.split() for line in table.read_text().splitlines()[1:]]
    except OSError:
        return False  # it has ended
    unconnected = "00000000:0000"
    return any(row[1].endswith(f":{port:04X}") and row[2] == unconnected for row in rows)
