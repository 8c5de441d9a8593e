"""The Dask scheduler: one task, known on the overlay as `scheduler`.

Owns the scheduler's command line and its service. It publishes no port: 8786 (Dask) is reachable
on the cluster's network only, and 8787 (dashboard) on Caddy's too. Its workers send it the keys of
the object store: it turns clients' expressions into tasks, and for Parquet reads files' metadata.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pulumi

from components.certificates import identity_of
from components.dask_config import Config
from components.health_check import HealthCheck
from components.object_store import scheduler_variables
from components.service import (
    DeclaredService,
    MountedFile,
    ServiceSpec,
    attachments,
    declare_service,
    mount_config,
)
from components.shared import DASK_HOME, Shared
from config.workloads import Workload
from swarm.upgrades import SCHEDULER_LABEL

ALIAS = "scheduler"
COMM_PORT = 8786
DASHBOARD_PORT = 8787
PRELOAD_SOURCE = Path(__file__).parent.parent / "images" / "scheduler_preload.py"
PRELOAD_TARGET = "/etc/dask-swarm/scheduler_preload.py"


@dataclass(frozen=True, kw_only=True)
class SchedulerArgs:
    """What the scheduler shares with the cluster, and its workload."""

    shared: Shared
    workload: Workload
    settings_hash: str  # of `swarm.upgrades.scheduler_hash`


class Scheduler(pulumi.ComponentResource):
    """The scheduler's service."""

    service: DeclaredService

    def __init__(
        self, name: str, args: SchedulerArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("dask:swarm:Scheduler", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        source = PRELOAD_SOURCE.read_text(encoding="utf-8")
        address = args.shared.scheduler_address
        files = [
            mount_config(f"{name}-preload", PRELOAD_TARGET, source, child),
            args.shared.subnets,
            *args.shared.dask_configs(name, "scheduler", dask_config(address), child),
        ]
        self.service = declare_service(f"{name}-service", _spec(args, files), child)
        self.register_outputs({"address": address})


def dask_config(address: str) -> Config:
    """Return Dask's configuration of a scheduler; its preload shows the address to clients."""
    return {"distributed": {"scheduler": {"contact-address": address}}}


def scheduler_address(*, encrypted: bool) -> str:
    """Return the scheduler's address on the overlay."""
    return f"{'tls' if encrypted else 'tcp'}://{ALIAS}:{COMM_PORT}"


def dashboard_url(service: str) -> str:
    """Return the dashboard's URL on the networks of the scheduler's service."""
    return f"http://{service}:{DASHBOARD_PORT}/status"


def _spec(args: SchedulerArgs, configs: Sequence[MountedFile]) -> ServiceSpec:
    shared, identity = args.shared, identity_of(args.shared.certificates, "scheduler")
    return ServiceSpec(
        workload=args.workload,
        image=shared.image,
        args=[
            *scheduler_args(scheduler_variables(shared.object_store)),
            *identity.preload_args,
        ],
        packages=shared.packages,
        start_seconds=shared.start_seconds,
        health_check=HealthCheck(port=DASHBOARD_PORT, path="/health"),
        networks=attachments(shared.network, shared.caddy_network_id, aliases=[ALIAS]),
        platforms=shared.platforms,
        image_platforms=shared.image_platforms,
        secrets=[*identity.secrets, *shared.pip_config],
        configs=[*configs, *shared.object_store.configs],
        volumes=[DASK_HOME],
        labels={SCHEDULER_LABEL: args.settings_hash},
    )


def scheduler_args(variables: Mapping[str, str]) -> list[str]:
    """Return the scheduler's command line, with environment variables that are not secret."""
    environment = [f"{name}={value}" for name, value in sorted(variables.items())]
    return [
        *(["env", *environment] if environment else []),
        "dask", "scheduler",
        # The preload adds the addresses on the other networks that may use the port.
        "--host", "127.0.0.1", "--port", str(COMM_PORT),
        "--dashboard-address", f":{DASHBOARD_PORT}",
        "--preload", PRELOAD_TARGET,
    ]  # fmt: skip
