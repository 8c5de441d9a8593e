"""What the nodes reach on their network: a registry and a name server.

The registry is one storage, served on the loopback of every node and of this machine: then
`localhost:<port>` names the same images everywhere, as it will on a laptop; engines trust
`localhost` without further settings, and nothing is open to any network.

The name server knows no name. The nodes have no way out: without it, the lookup of a name that an
engine does not know would hang for 20 s, where a real Swarm's fails at once.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import portal, processes, registry
from lab.layout import Lab

PORTAL_PORT = 9091
_DNSMASQ = ("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file",
            "--log-facility=-", "--no-resolv", "--no-hosts", "--address=/#/", "--bind-interfaces",
            "--except-interface=lo")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Service:
    """A program that listens on a port of one network namespace."""

    what: str
    command: tuple[str, ...]
    log: Path
    cgroup: str
    port: int
    table: str  # of /proc/net

    def listens(self) -> bool:
        pids = processes.running(self.cgroup)
        return any(_has_port(Path(f"/proc/{pid}/net/{self.table}"), self.port) for pid in pids)

    def start(self) -> processes.Daemon:
        return processes.start(self.what, self.command, self.log, self.cgroup)


def start_services(lab: Lab) -> None:
    """Start the services that are missing; `LabError` when one does not listen within 20 s."""
    for directory in (lab.registry_directory, *(node.directory for node in lab.nodes)):
        directory.mkdir(parents=True, exist_ok=True)
    services = [
        _name_server(lab),
        _registry(lab, "this machine", lab.registry_directory, lab.cgroup),
        *(_registry(lab, n.name, n.directory, n.cgroup, n.inside) for n in lab.nodes),
    ]
    started = [(service, service.start()) for service in services if not service.listens()]
    for service, daemon in started:
        daemon.wait(service.listens, seconds=20)


@contextmanager
def login_service(lab: Lab) -> Iterator[None]:
    """Run a stand-in for Authelia at this machine's address in the lab."""
    start_portal(lab)
    try:
        yield
    finally:
        stop_portal(lab)


def start_portal(lab: Lab) -> None:
    """Start the stand-in for Authelia."""
    service = _portal(lab)
    service.start().wait(service.listens, seconds=20)


def stop_portal(lab: Lab) -> None:
    """Stop the stand-in for Authelia."""
    processes.end(_portal(lab).cgroup)


def _portal(lab: Lab) -> _Service:
    return _Service(
        what="the stand-in for Authelia",
        command=(sys.executable, portal.__file__, str(PORTAL_PORT), lab.gateway),
        log=lab.directory / "portal.log",
        cgroup=f"{lab.cgroup}/portal",
        port=PORTAL_PORT,
        table="tcp",
    )


def _name_server(lab: Lab) -> _Service:
    inside = ("nsenter", f"--net={lab.switch}")
    return _Service(
        what="the name server",
        command=(*inside, *_DNSMASQ, f"--listen-address={lab.name_server}"),
        log=lab.directory / "nameserver.log",
        cgroup=f"{lab.cgroup}/nameserver",
        port=53,
        table="udp",
    )


def _registry(
    lab: Lab, name: str, directory: Path, cgroup: str, inside: Sequence[str] = ()
) -> _Service:
    config = directory / "registry.yml"
    storage = lab.registry_directory / "storage"
    config.write_text(registry.render_config(storage, f"127.0.0.1:{lab.registry_port}"))
    return _Service(
        what=f"the registry for {name}",
        command=(*inside, "docker-registry", "serve", str(config)),
        log=directory / "registry.log",
        cgroup=f"{cgroup}/registry",
        port=lab.registry_port,
        table="tcp",
    )


def _has_port(table: Path, port: int) -> bool:
    """Whether a port is taken where a process lives; its namespace has tables of its own."""
    try:
        rows = [line.split() for line in table.read_text().splitlines()[1:]]
    except OSError:
        return False  # the process has ended
    unconnected = "00000000:0000"
    return any(row[1].endswith(f":{port:04X}") and row[2] == unconnected for row in rows)
