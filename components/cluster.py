"""The Dask cluster: an overlay network with a scheduler, workers and a notebook on it.

With `prefect` managed, a Prefect server is on it too.

Owns how the services are wired and which settings each gets. It publishes nothing: the ingress and
the proofs are declared beside it in `__main__.py`.
"""

from dataclasses import dataclass

import pulumi

from components.certificates import Certificates, declare_certificates
from components.environment import declare_environment
from components.ingress import Ingress
from components.network import DaskNetwork
from components.notebook import Notebook, NotebookArgs
from components.object_store import ObjectStore, declare_object_store
from components.pip import declare_pip_config
from components.prefect import Prefect, PrefectArgs, api_url, prefect_variables
from components.scheduler import Scheduler, SchedulerArgs, dashboard_url, scheduler_address
from components.service import DeclaredService, MountedFile, Network, mount_config
from components.shared import Shared
from components.workers import Workers, WorkersArgs
from config import workloads
from config.settings import Settings
from swarm.site import Site
from swarm.upgrades import scheduler_hash

# By it the scheduler and the notebook know which of their addresses is on the cluster's network.
SUBNETS = "/etc/dask-swarm/subnets.json"


@dataclass(frozen=True, kw_only=True)
class DaskClusterArgs:
    """The settings of the stack, the facts of its Swarm, and the ingress."""

    settings: Settings
    site: Site
    ingress: Ingress


class DaskCluster(pulumi.ComponentResource):
    """Network, scheduler, workers, notebook and, if managed, Prefect."""

    scheduler_address: str
    network: Network
    notebook: Notebook
    environment: MountedFile | None
    pip_config: list[MountedFile]
    certificates: Certificates | None
    client_config: pulumi.Output[str] | None
    prefect_api_url: str
    services: tuple[DeclaredService, ...]

    def __init__(
        self, name: str, args: DaskClusterArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("dask:swarm:DaskCluster", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        settings = args.settings
        self.scheduler_address = scheduler_address(encrypted=settings.tls.on)
        self.network = DaskNetwork(f"{name}-network", settings, args.site, child).network
        subnets = pulumi.Output.json_dumps(self.network.subnets)
        self._subnets = mount_config(f"{name}-subnets", SUBNETS, subnets, child)
        self.prefect_api_url = api_url(settings.prefect, workloads.prefect(settings).name)
        store = declare_object_store(f"{name}-object-store", settings.object_store, child)
        variables = {
            **store.variables,
            **prefect_variables(self.prefect_api_url),
            **settings.shared.environment,
        }
        self.environment = declare_environment(f"{name}-environment", variables, child)
        held = args.site.held_hash
        self.certificates = declare_certificates(
            f"{name}-tls", settings.tls, child, holds_workers=bool(held)
        )
        self.client_config = self.certificates.client_config if self.certificates else None
        self.pip_config = declare_pip_config(f"{name}-pip", settings.cluster.pip_config, child)
        shared = self._shared(args, store)
        workers = Workers(
            f"{name}-workers",
            WorkersArgs(
                shared=shared,
                workload=workloads.workers(settings),
                threads=settings.workers.threads,
                held_hash=held,
            ),
            child,
        )
        # Workers that must stay as they are refuse a change before it reaches the other services.
        first = [workers.service.resource] if held else []
        others = pulumi.ResourceOptions(parent=self, depends_on=first)
        scheduler = Scheduler(
            f"{name}-scheduler",
            SchedulerArgs(
                shared=shared,
                workload=workloads.scheduler(settings),
                settings_hash=scheduler_hash(settings),
            ),
            others,
        )
        self.notebook = Notebook(
            f"{name}-notebook",
            NotebookArgs(
                shared=shared,
                workload=workloads.notebook(settings),
                image=args.site.notebook_image,
                image_platforms=args.site.notebook_image_platforms,
                password=settings.notebook.password,
                ingress_key=args.ingress.keys.get("notebook"),
            ),
            others,
        )
        self.services = (scheduler.service, workers.service, self.notebook.service)
        if settings.prefect.mode == "managed":
            prefect_args = PrefectArgs(
                shared=shared,
                workload=workloads.prefect(settings),
                ingress_key=args.ingress.keys.get("prefect"),
            )
            self.services += (Prefect(f"{name}-prefect", prefect_args, others).service,)
        self.register_outputs(
            {
                "scheduler_address": self.scheduler_address,
                "dashboard_url": dashboard_url(scheduler.service.name),
                "notebook_url": self.notebook.url,
            }
        )

    def _shared(self, args: DaskClusterArgs, store: ObjectStore) -> Shared:
        return Shared(
            cluster=args.settings.cluster.name,
            image=args.site.image,
            platforms=args.settings.cluster.platforms,
            image_platforms=args.site.image_platforms,
            packages=args.settings.cluster.packages,
            # A container that still installs packages lives as long as the proof waits for it.
            start_seconds=args.settings.health.deadline if args.settings.cluster.packages else 0,
            pip_config=self.pip_config,
            dask_config=args.settings.shared.dask_config,
            environment=self.environment,
            object_store=store,
            certificates=self.certificates,
            scheduler_address=self.scheduler_address,
            network=self.network,
            other_network_ids=args.site.other_network_ids,
            subnets=self._subnets,
            caddy_network_id=args.ingress.network_id,
        )
