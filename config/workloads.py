"""The services of a stack before any is declared: their names, their tasks, their resources.

Owns what pre-flight, components and tools must agree on; pure, over `Settings`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from config.names import service_name
from config.settings import Settings
from config.types import memory


@dataclass(frozen=True, kw_only=True)
class ResourceLimit:
    """What a task may use: CPUs (0.5 is half of one) and memory in bytes."""

    cpus: Decimal
    memory_bytes: int

    @property
    def nano_cpus(self) -> int:
        """CPUs in billionths, as the Swarm counts them."""
        return int(self.cpus * 10**9)

    def at_most(self, other: "ResourceLimit") -> "ResourceLimit":
        """Return the smaller of both in each resource."""
        return ResourceLimit(
            cpus=min(self.cpus, other.cpus),
            memory_bytes=min(self.memory_bytes, other.memory_bytes),
        )


# What all services but the workers need to start; up to their limits they share the node.
SMALL_RESERVATION = ResourceLimit(cpus=Decimal("0.1"), memory_bytes=memory("256MiB"))
START_SECONDS = 300  # within them a container that does not answer is not unhealthy
CADDY_LIMIT = ResourceLimit(cpus=Decimal(1), memory_bytes=memory("256MiB"))


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The tasks of one service: how many, what each reserves and may use, and on which nodes.

    `per_node` is the most that a node takes, 0 for any number, as in Swarm's own spec.
    `placement_key` is the config key that `constraints` are from. With `start_first` the old task
    of an update serves until the new task is healthy: the nodes need room for both.
    """

    name: str
    constraints: Sequence[str]
    replicas: int | Literal["everywhere"] = 1  # or one on every node that fits
    per_node: int = 0
    reservation: ResourceLimit
    limit: ResourceLimit
    placement_key: str = "controlPlacement"
    start_first: bool = False

    @property
    def runs_workers(self) -> bool:
        """Whether the tasks are Dask workers."""
        return self.placement_key == "workerPlacement"


def workloads(settings: Settings) -> tuple[Workload, ...]:
    """Return every service of the stack, the workers last: they are placed on what is left."""
    return (
        scheduler(settings),
        notebook(settings),
        *([prefect(settings)] if settings.prefect.mode == "managed" else []),
        *([caddy(settings), caddy_reloader(settings)] if settings.caddy.mode == "managed" else []),
        workers(settings),
    )


def scheduler(settings: Settings) -> Workload:
    """Return the Dask scheduler's workload."""
    limit = ResourceLimit(cpus=settings.scheduler.cpus, memory_bytes=settings.scheduler.memory)
    # If the new scheduler does not start, running work must not be lost.
    return replace(_control("scheduler", settings, limit), start_first=True)


def workers(settings: Settings) -> Workload:
    """Return the Dask workers' workload."""
    limit = ResourceLimit(cpus=settings.workers.cpus, memory_bytes=settings.workers.memory)
    reservation = ResourceLimit(
        cpus=settings.workers.reserved_cpus or limit.cpus,
        memory_bytes=settings.workers.reserved_memory or limit.memory_bytes,
    )
    return Workload(
        name=service_name(settings.cluster.name, "worker"),
        constraints=settings.workers.placement,
        replicas=settings.workers.count,
        per_node=settings.workers.per_node,
        reservation=reservation,
        limit=limit,
        placement_key="workerPlacement",
    )


def notebook(settings: Settings) -> Workload:
    """Return the notebook's workload."""
    limit = ResourceLimit(cpus=settings.notebook.cpus, memory_bytes=settings.notebook.memory)
    # If the new notebook server does not start, running kernels must not be lost.
    return replace(_control("notebook", settings, limit), start_first=True)


def prefect(settings: Settings) -> Workload:
    """Return the workload of the Prefect server (`prefect` managed)."""
    limit = ResourceLimit(cpus=settings.prefect.cpus, memory_bytes=settings.prefect.memory)
    return _control("prefect", settings, limit)


def caddy(settings: Settings) -> Workload:
    """Return Caddy's workload (`caddyMode` managed)."""
    return _control("caddy", settings, CADDY_LIMIT)


def caddy_reloader(settings: Settings) -> Workload:
    """Return the reloader's workload; Caddy is on one of its nodes, and may move to another."""
    return _control("caddy_reloader", settings, CADDY_LIMIT, "everywhere")


def _control(
    role: str,
    settings: Settings,
    limit: ResourceLimit,
    replicas: int | Literal["everywhere"] = 1,
) -> Workload:
    return Workload(
        name=service_name(settings.cluster.name, role),
        constraints=settings.shared.control_placement,
        replicas=replicas,
        reservation=limit.at_most(SMALL_RESERVATION),
        limit=limit,
    )
