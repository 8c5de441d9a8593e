"""The Dask scheduler: one task, known on the overlay as `scheduler`.

Owns the scheduler's command line and its service. It publishes no port: 8786 (Dask) and 8787
(dashboard) are reachable on its networks only. Its workers send it the keys of the object store:
it makes tasks of what clients send, and for Parquet reads the files' metadata to do so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pulumi

from components.dask_config import Config, mount_dask_config
from components.health_check import HealthCheck
from components.object_store import ObjectStore, scheduler_variables
from components.service import (
    DeclaredService,
    MountedFile,
    Rolling,
    ServiceSpec,
    attachments,
    declare_service,
    mount_config,
    package_environment,
)
from config.types import Platform
from config.workloads import ResourceLimit

ALIAS = "scheduler"
COMM_PORT = 8786
DASHBOARD_PORT = 8787
PRELOAD_SOURCE = Path(__file__).parent.parent / "images" / "scheduler_preload.py"
PRELOAD_TARGET = "/etc/dask-swarm/scheduler_preload.py"
ADDRESS = f"tcp://{ALIAS}:{COMM_PORT}"
# What the preload has the scheduler advertise.
DASK_CONFIG = {"distributed": {"scheduler": {"contact-address": ADDRESS}}}


@dataclass(frozen=True, kw_only=True)
class SchedulerArgs:
    """What the scheduler is made of and where it runs; `caddy_network_id` is None without one."""

    image: str
    limit: ResourceLimit
    reservation: ResourceLimit
    constraints: Sequence[str]
    platform: Platform
    packages: Sequence[str] = ()
    dask_config: Config = field(default_factory=dict)
    object_store: ObjectStore = field(default_factory=ObjectStore)
    network_id: pulumi.Input[str]
    caddy_network_id: pulumi.Input[str] | None


class Scheduler(pulumi.ComponentResource):
    """The service `dask_scheduler`."""

    service: DeclaredService

    def __init__(
        self, name: str, args: SchedulerArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("dask:swarm:Scheduler", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        source = PRELOAD_SOURCE.read_text(encoding="utf-8")
        files = [
            mount_config(f"{name}-preload", PRELOAD_TARGET, source, child),
            mount_dask_config(name, DASK_CONFIG, args.dask_config, child),
        ]
        self.service = declare_service(f"{name}-service", _spec(args, files), child)
        self.register_outputs({"address": ADDRESS})


def _spec(args: SchedulerArgs, configs: Sequence[MountedFile]) -> ServiceSpec:
    return ServiceSpec(
        name="dask_scheduler",
        image=args.image,
        args=scheduler_args(scheduler_variables(args.object_store)),
        environment=package_environment(args.packages),
        limit=args.limit,
        reservation=args.reservation,
        health_check=HealthCheck(port=DASHBOARD_PORT, path="/health"),
        networks=attachments(args.network_id, args.caddy_network_id, [ALIAS]),
        constraints=args.constraints,
        platform=args.platform,
        configs=[*configs, *args.object_store.configs],
        # A scheduler that does not start must not cost the work that the old one holds together.
        rolling=Rolling(start_first=True),
    )


def scheduler_args(variables: Mapping[str, str]) -> list[str]:
    """Return the scheduler's command line, with environment variables that are no secrets."""
    environment = [f"{name}={value}" for name, value in sorted(variables.items())]
    return [
        *(["env", *environment] if environment else []),
        "dask", "scheduler",
        "--port", str(COMM_PORT),
        "--dashboard-address", f":{DASHBOARD_PORT}",
        "--preload", PRELOAD_TARGET,
    ]  # fmt: skip
