"""The Dask workers: equal tasks, each with its own limits, spread over the data nodes.

Owns the workers' command line, how they are replaced, and their service. One `ResourceLimit` is
both the Swarm's limit and what Dask is told, so that neither believes in more than the other
grants.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pulumi

from components.dask_config import Config, mount_dask_config
from components.health_check import HealthCheck
from components.object_store import ObjectStore
from components.parsing import Platform, spell_memory
from components.swarm import (
    Attachment,
    DeclaredService,
    MountedFile,
    ResourceLimit,
    Rolling,
    ServiceSpec,
    declare_service,
    mount_config,
    package_environment,
)

HTTP_PORT = 8789
PRELOAD_SOURCE = Path(__file__).parent.parent / "images" / "worker_preload.py"
PRELOAD_TARGET = "/etc/dask-swarm/worker_preload.py"
GRACE_PERIOD = "1m"  # longer than the preload takes at most
DASK_CONFIG: Config = {}


@dataclass(frozen=True, kw_only=True)
class WorkersArgs:
    """How many workers there are, what each may use and where they run."""

    image: str
    replicas: int
    per_node: int
    threads: int
    limit: ResourceLimit
    constraints: Sequence[str]
    platform: Platform
    packages: Sequence[str]
    dask_config: Config = field(default_factory=dict)
    environment: MountedFile | None = None
    object_store: ObjectStore = field(default_factory=ObjectStore)
    scheduler_address: str
    network_id: pulumi.Input[str]


class Workers(pulumi.ComponentResource):
    """The service `dask_worker`."""

    service: DeclaredService

    def __init__(
        self, name: str, args: WorkersArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("dask:swarm:Workers", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        source = PRELOAD_SOURCE.read_text(encoding="utf-8")
        preload = mount_config(f"{name}-preload", PRELOAD_TARGET, source, child)
        config = mount_dask_config(name, DASK_CONFIG, args.dask_config, child)
        self.service = declare_service(f"{name}-service", _spec(args, [preload, config]), child)
        self.register_outputs({"replicas": args.replicas})


def _spec(args: WorkersArgs, configs: Sequence[MountedFile]) -> ServiceSpec:
    return ServiceSpec(
        name="dask_worker",
        image=args.image,
        args=worker_args(args.scheduler_address, args.threads, args.limit),
        environment=package_environment(args.packages),
        limit=args.limit,
        # All of it is reserved: a worker that Dask counts on must not depend on its neighbours.
        reservation=args.limit,
        health_check=HealthCheck(port=HTTP_PORT, path="/health"),
        networks=[Attachment(network_id=args.network_id)],
        constraints=args.constraints,
        platform=args.platform,
        replicas=args.replicas,
        max_replicas_per_node=args.per_node,
        configs=[*configs, *args.object_store.configs],
        secrets=[*([args.environment] if args.environment else []), *args.object_store.secrets],
        rolling=rolling(args.replicas),
        grace_period=GRACE_PERIOD,
    )


def rolling(replicas: int) -> Rolling:
    """Return how so many workers are replaced: a quarter at once, whose data the others take.

    Old ones go first, because the nodes may have no room for both. A new worker is healthy before
    the scheduler knows it, hence the pause: it may be the one that the next one's data goes to.
    """
    return Rolling(parallelism=max(1, replicas // 4), delay="2s")


def worker_args(scheduler_address: str, threads: int, limit: ResourceLimit) -> list[str]:
    """Return a worker's command line: one process, because the Swarm already is its nanny.

    A nanny would be a second process in the container's memory, and could not act before the
    kernel does where limit and Dask's `--memory-limit` are the same.
    """
    return [
        "dask", "worker", scheduler_address,
        "--nthreads", str(threads),
        "--memory-limit", spell_memory(limit.memory_bytes),
        "--no-nanny",
        "--no-dashboard",
        "--dashboard-address", f":{HTTP_PORT}",
        "--preload", PRELOAD_TARGET,
    ]  # fmt: skip
