"""Names, addresses and places of the lab; everything else derives from one `Lab`."""

import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

STATE = Path("/var/lib")
NAMESPACES = Path("/run/netns")
DEBIAN = "forky"  # the release with the newer engine
_NAME = re.compile(r"[a-z][a-z0-9-]{0,11}")


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A Docker engine of the lab: a node of the Swarm or the image builder."""

    name: str
    directory: Path
    cgroup: str
    namespace: Path | None  # none: this machine's own
    root: Path | None = None  # a Debian system with its own engine; none: this machine's

    @property
    def inside(self) -> list[str]:
        """The words in front of a command that make it run on the engine's network."""
        return ["nsenter", f"--net={self.namespace}"] if self.namespace else []

    @property
    def socket(self) -> Path:
        """The API's socket; its path must stay below 108 bytes."""
        return self.directory / "docker.sock"

    @property
    def docker_host(self) -> str:
        """The address to give to a Docker client."""
        return f"unix://{self.socket}"

    @property
    def hostname(self) -> str:
        """The node's name in `docker node ls`."""
        return f"lab-{self.name}"


@dataclass(frozen=True, kw_only=True)
class Node(Engine):
    """A machine of the lab's Swarm: an engine in its own network namespace."""

    namespace: Path
    role: str
    address: str


@dataclass(frozen=True, kw_only=True)
class Lab:
    """A lab. The usual lab has no name; a second lab has a name."""

    name: str = ""
    engine: str = ""  # of the nodes: this machine's, or that of a Debian release

    def __post_init__(self) -> None:
        if self.name and not _NAME.fullmatch(self.name):
            raise ValueError(
                f"DASK_SWARM_LAB: {self.name!r} cannot name a lab. Allowed are at most 12 of a-z,"
                " 0-9 and '-', a letter first, for example 'second'"
            )
        if self.engine not in ("", DEBIAN):
            raise ValueError(
                f"DASK_SWARM_LAB_ENGINE: {self.engine!r} names no engine. Allowed are {DEBIAN!r}"
                " and nothing, which means the engine of this machine"
            )

    @property
    def offset(self) -> int:
        """Sets subnet and port apart: 0 for the usual lab, 1 to 99 for a named lab."""
        return 1 + zlib.crc32(self.name.encode()) % 99 if self.name else 0

    @property
    def prefix(self) -> str:
        """The start of the names of namespaces and control groups."""
        return f"dasklab-{self.name}" if self.name else "dasklab"

    @property
    def cgroup(self) -> str:
        """The control group of all engines, containers and other programs."""
        return f"/{self.prefix}"

    @property
    def directory(self) -> Path:
        """The only place on disk; its name keeps `lab down` from removing anything else."""
        return STATE / (f"dask-swarm-lab-{self.name}" if self.name else "dask-swarm-lab")

    @property
    def link(self) -> str:
        """This machine's interface on the lab's network; at most 15 bytes long."""
        return f"dasklab{self.offset}"

    @property
    def switch(self) -> Path:
        """The namespace of the bridge that joins nodes and machine."""
        return NAMESPACES / f"{self.prefix}-switch"

    @property
    def gateway(self) -> str:
        """This machine's address on the lab's network, a /24."""
        return self._address(1)

    @property
    def name_server(self) -> str:
        """The address that nodes ask for the names they do not know; the bridge has it."""
        return self._address(2)

    @property
    def registry(self) -> str:
        """Host and port of the registry, the same on this machine and on every node."""
        return f"localhost:{self.registry_port}"

    @property
    def registry_port(self) -> int:
        """The registry's TCP port on every loopback."""
        return 5001 + self.offset

    @property
    def registry_directory(self) -> Path:
        """Storage, settings and logs of the registry."""
        return self.directory / "registry"

    @property
    def master(self) -> Node:
        """The only manager of the Swarm."""
        return self.nodes[0]

    @property
    def docker_host(self) -> str:
        """The manager's address."""
        return self.master.docker_host

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The three machines, the manager first."""
        return (
            self._node("master", "master", 11),
            self._node("data-1", "data-worker", 12),
            self._node("data-2", "data-worker", 13),
        )

    @property
    def builder(self) -> Engine:
        """The engine that builds images on this machine's own network."""
        return Engine(
            name="builder",
            directory=self.directory / "builder",
            cgroup=f"{self.cgroup}/builder",
            namespace=None,
        )

    def _address(self, host: int) -> str:
        return f"10.{77 + self.offset}.0.{host}"

    @property
    def debian(self) -> Path:
        """The Debian system whose engine is newer than this machine's."""
        return self.directory / DEBIAN

    def _node(self, name: str, role: str, host: int) -> Node:
        return Node(
            name=name,
            directory=self.directory / name,
            cgroup=f"{self.cgroup}/{name}",
            namespace=NAMESPACES / f"{self.prefix}-{name}",
            root=self.debian if self.engine else None,
            role=role,
            address=self._address(host),
        )


def chosen_lab() -> Lab:
    """The lab that the environment chooses: `DASK_SWARM_LAB`, `DASK_SWARM_LAB_ENGINE`."""
    return Lab(
        name=os.environ.get("DASK_SWARM_LAB", ""),
        engine=os.environ.get("DASK_SWARM_LAB_ENGINE", ""),
    )
