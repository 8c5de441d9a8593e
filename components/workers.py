"""The Dask workers: equal tasks, spread over the data nodes.

Owns the workers' command line, how they are replaced, and their service. One `ResourceLimit` is
both Swarm's limit and Dask's, so that a worker never plans with more memory than it may use.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pulumi

from components.certificates import identity_of
from components.dask_config import Config
from components.health_check import HealthCheck
from components.service import (
    DeclaredService,
    MountedFile,
    Rolling,
    ServiceSpec,
    attachments,
    declare_service,
    mount_config,
)
from components.shared import DASK_HOME, Shared
from config.names import network_name
from config.types import spell_memory
from config.workloads import ResourceLimit, Workload

HTTP_PORT = 8789
PRELOADS = Path(__file__).parent.parent / "images"
WORKER_PRELOAD, NANNY_PRELOAD = "worker_preload.py", "nanny_preload.py"
PRELOAD_TARGET = "/etc/dask-swarm"
GRACE_PERIOD = "1m"  # longer than the preloads ever take
SPILL_FACTOR = 10  # times its memory, a worker may spill to disk
# These must be set before the nanny starts, because its worker is a fork of it: the C library and
# Python read them only when a process starts.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "PYTHONHASHSEED": "6640",  # the nanny's own value: bags need equal hashes on all workers
}


@dataclass(frozen=True, kw_only=True)
class WorkersArgs:
    """What the workers share with the cluster, their workload and the threads of each.

    Unless `held_hash` is empty, the service must keep that declared hash.
    """

    shared: Shared
    workload: Workload
    threads: int
    held_hash: str


class Workers(pulumi.ComponentResource):
    """The workers' service, with its preloads."""

    service: DeclaredService

    def __init__(
        self, name: str, args: WorkersArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("dask:swarm:Workers", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        configs = [
            _mount_preload(f"{name}-preload", WORKER_PRELOAD, child),
            _mount_preload(f"{name}-nanny-preload", NANNY_PRELOAD, child),
            *args.shared.dask_configs(name, "worker", dask_config(args.workload.limit), child),
        ]
        self.service = declare_service(
            f"{name}-service", _spec(args, configs), child, held_hash=args.held_hash
        )
        self.register_outputs({"replicas": args.workload.replicas})


def dask_config(limit: ResourceLimit) -> Config:
    """Return Dask's configuration of workers with a limit."""
    worker = {
        # A fork takes a quarter of a new interpreter's time, and a third of its memory.
        "multiprocessing-method": "fork",
        "daemon": False,  # tasks may start processes
        # By default workers spill until the node's disk is full, which harms all that is on it.
        "memory": {"max-spill": SPILL_FACTOR * limit.memory_bytes},
    }
    return {"distributed": {"worker": worker}}


def _mount_preload(name: str, file: str, opts: pulumi.ResourceOptions) -> MountedFile:
    source = (PRELOADS / file).read_text(encoding="utf-8")
    return mount_config(name, f"{PRELOAD_TARGET}/{file}", source, opts)


def _spec(args: WorkersArgs, configs: Sequence[MountedFile]) -> ServiceSpec:
    shared, workload = args.shared, args.workload
    identity = identity_of(shared.certificates, "worker")
    return ServiceSpec(
        workload=workload,
        image=shared.image,
        args=[
            *worker_args(shared.scheduler_address, args.threads, workload.limit),
            *identity.preload_args,
        ],
        packages=shared.packages,
        start_seconds=shared.start_seconds,
        health_check=HealthCheck(port=HTTP_PORT, path="/health"),
        networks=attachments(shared.network, *shared.other_network_ids),
        # Another network may have a `scheduler` too, which could be found first.
        search_domains=[network_name(shared.cluster)] if shared.other_network_ids else [],
        platforms=shared.platforms,
        image_platforms=shared.image_platforms,
        configs=[*configs, *shared.object_store.configs],
        secrets=[*identity.secrets, *shared.work_secrets],
        volumes=[DASK_HOME],
        rolling=rolling(workload),
        grace_period=GRACE_PERIOD,
    )


def rolling(workload: Workload) -> Rolling:
    """Return how workers are replaced: a quarter at once; the others take over their data.

    Old workers stop first, because the nodes may have no room for both. A new worker is healthy
    before the scheduler knows it, hence the pause: the next worker's data may go to it.
    """
    count = workload.replicas if isinstance(workload.replicas, int) else 1
    return Rolling(parallelism=max(1, count // 4), delay="2s")


def worker_args(scheduler_address: str, threads: int, limit: ResourceLimit) -> list[str]:
    """Return a worker's command line, the same in every image.

    The nanny restarts the worker in the same container, before the kernel kills it.
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
