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
from components.service import (
    Attachment,
    DeclaredService,
    MountedFile,
    Rolling,
    ServiceSpec,
    declare_service,
    mount_config,
    package_environment,
)
from config.types import Platform, spell_memory
from config.workloads import ResourceLimit

HTTP_PORT = 8789
PRELOADS = Path(__file__).parent.parent / "images"
WORKER_PRELOAD, NANNY_PRELOAD = "worker_preload.py", "nanny_preload.py"
PRELOAD_TARGET = "/etc/dask-swarm"
GRACE_PERIOD = "1m"  # longer than the preloads take at most
DASK_CONFIG: Config = {
    "distributed": {
        "worker": {
            # A quarter of the time and a third of the memory that a second interpreter takes.
            "multiprocessing-method": "fork",
            "daemon": False,  # tasks may start processes
        }
    }
}
# What must be set before the nanny's process starts, because its worker is a fork of it; the nanny
# sets them in the worker's environment only, where the C library and Python do not look any more.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "PYTHONHASHSEED": "6640",  # the nanny's own: bags are grouped by hashes that must be the same
}


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
        configs = [
            _mount_preload(f"{name}-preload", WORKER_PRELOAD, child),
            _mount_preload(f"{name}-nanny-preload", NANNY_PRELOAD, child),
            mount_dask_config(name, DASK_CONFIG, args.dask_config, child),
        ]
        self.service = declare_service(f"{name}-service", _spec(args, configs), child)
        self.register_outputs({"replicas": args.replicas})


def _mount_preload(name: str, file: str, opts: pulumi.ResourceOptions) -> MountedFile:
    source = (PRELOADS / file).read_text(encoding="utf-8")
    return mount_config(name, f"{PRELOAD_TARGET}/{file}", source, opts)


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
    """Return a worker's command line, which is the same in every image.

    Its nanny restarts it in the same container, and before the kernel has to kill it.
    """
    return [
        "env", *(f"{name}={value}" for name, value in ENVIRONMENT.items()),
        "dask", "worker", scheduler_address,
        "--nthreads", str(threads),
        "--memory-limit", spell_memory(limit.memory_bytes),
        "--nanny",
        "--no-dashboard",
        "--dashboard-address", f":{HTTP_PORT}",
        "--preload", f"{PRELOAD_TARGET}/{WORKER_PRELOAD}",
        "--preload-nanny", f"{PRELOAD_TARGET}/{NANNY_PRELOAD}",
    ]  # fmt: skip
