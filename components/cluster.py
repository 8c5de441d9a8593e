"""The Dask cluster: an overlay network with a scheduler, workers and a notebook on it.

Where the stack runs a Prefect server, that is on it too.

Owns how the parts are wired and which settings each one gets. It publishes nothing; what stands in
front of it and what proves it are built beside it in `__main__.py`.
"""

from dataclasses import dataclass

import pulumi

from components.environment import declare_environment
from components.network import DaskNetwork
from components.notebook import Notebook, NotebookArgs
from components.object_store import ObjectStore, declare_object_store
from components.prefect import Prefect, PrefectArgs, api_url, prefect_variables
from components.scheduler import ADDRESS, DASHBOARD_PORT, Scheduler, SchedulerArgs
from components.service import DeclaredService, MountedFile
from components.workers import Workers, WorkersArgs
from config.settings import Settings
from config.workloads import SMALL, ResourceLimit
from swarm.site import Site


@dataclass(frozen=True, kw_only=True)
class DaskClusterArgs:
    """The settings of the stack, what was found on its Swarm and, if any, Caddy's network and key.

    The key is the notebook's front key.
    """

    settings: Settings
    site: Site
    caddy_network_id: pulumi.Input[str] | None
    front_key: MountedFile | None


class DaskCluster(pulumi.ComponentResource):
    """Network, scheduler, workers and notebook."""

    scheduler_address = ADDRESS
    dashboard_url = f"http://dask_scheduler:{DASHBOARD_PORT}/status"
    network_id: pulumi.Output[str]
    notebook: Notebook
    environment: MountedFile | None
    prefect_api_url: str
    services: tuple[DeclaredService, ...]

    def __init__(
        self, name: str, args: DaskClusterArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("dask:swarm:DaskCluster", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.network_id = network_id = DaskNetwork(f"{name}-network", child).network_id
        self.prefect_api_url = api_url(args.settings.prefect, args.settings.prefect_api_url)
        store = declare_object_store(f"{name}-object-store", args.settings, child)
        scheduler = Scheduler(f"{name}-scheduler", _scheduler(args, network_id, store), child)
        variables = {
            **store.variables,
            **prefect_variables(self.prefect_api_url),
            **args.settings.environment,
        }
        self.environment = environment = declare_environment(
            f"{name}-environment", variables, child
        )
        workers = Workers(f"{name}-workers", _workers(args, network_id, environment, store), child)
        self.notebook = Notebook(
            f"{name}-notebook", _notebook(args, network_id, environment, store), child
        )
        self.services = (scheduler.service, workers.service, self.notebook.service)
        if args.settings.prefect == "managed":
            prefect = Prefect(f"{name}-prefect", _prefect(args, network_id), child)
            self.services += (prefect.service,)
        self.register_outputs(
            {
                "scheduler_address": self.scheduler_address,
                "dashboard_url": self.dashboard_url,
                "notebook_url": self.notebook.url,
            }
        )


def _scheduler(
    args: DaskClusterArgs, network_id: pulumi.Input[str], object_store: ObjectStore
) -> SchedulerArgs:
    settings = args.settings
    limit = ResourceLimit(cpus=settings.scheduler_cpus, memory_bytes=settings.scheduler_memory)
    return SchedulerArgs(
        image=args.site.image,
        limit=limit,
        reservation=limit.at_most(SMALL),
        constraints=settings.control_placement,
        platform=settings.platform,
        packages=settings.extra_pip_packages,
        dask_config=settings.dask_config,
        object_store=object_store,
        network_id=network_id,
        caddy_network_id=args.caddy_network_id,
    )


def _workers(
    args: DaskClusterArgs,
    network_id: pulumi.Input[str],
    environment: MountedFile | None,
    object_store: ObjectStore,
) -> WorkersArgs:
    settings = args.settings
    return WorkersArgs(
        image=args.site.image,
        replicas=settings.workers,
        per_node=settings.workers_per_node,
        threads=settings.worker_threads,
        limit=ResourceLimit(cpus=settings.worker_cpus, memory_bytes=settings.worker_memory),
        constraints=settings.worker_placement,
        platform=settings.platform,
        packages=settings.extra_pip_packages,
        dask_config=settings.dask_config,
        environment=environment,
        object_store=object_store,
        scheduler_address=ADDRESS,
        network_id=network_id,
    )


def _prefect(args: DaskClusterArgs, network_id: pulumi.Input[str]) -> PrefectArgs:
    settings = args.settings
    limit = ResourceLimit(cpus=settings.prefect_cpus, memory_bytes=settings.prefect_memory)
    return PrefectArgs(
        image=args.site.image,
        limit=limit,
        reservation=limit.at_most(SMALL),
        constraints=settings.control_placement,
        platform=settings.platform,
        packages=settings.extra_pip_packages,
        network_id=network_id,
        caddy_network_id=args.caddy_network_id,
    )


def _notebook(
    args: DaskClusterArgs,
    network_id: pulumi.Input[str],
    environment: MountedFile | None,
    object_store: ObjectStore,
) -> NotebookArgs:
    settings = args.settings
    limit = ResourceLimit(cpus=settings.notebook_cpus, memory_bytes=settings.notebook_memory)
    return NotebookArgs(
        image=args.site.notebook_image,
        limit=limit,
        reservation=limit.at_most(SMALL),
        constraints=settings.control_placement,
        platform=settings.platform,
        password=settings.notebook_password,
        front_key=args.front_key,
        scheduler_address=ADDRESS,
        packages=settings.extra_pip_packages,
        dask_config=settings.dask_config,
        environment=environment,
        object_store=object_store,
        network_id=network_id,
        caddy_network_id=args.caddy_network_id,
    )
