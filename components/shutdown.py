"""The shutdown as a resource: it runs only when it is deleted, before all others.

Owns when the program in `swarm/shutdown.py` runs. The resource depends on every service and
nothing depends on it, so a `destroy` begins with it. Then the networks have no tasks left: the
provider does not retry when Swarm refuses to remove a network in use.
"""

from dataclasses import dataclass

import pulumi

from components.cluster import DaskCluster
from components.ingress import Ingress
from components.program import declare_program
from config.settings import Settings


@dataclass(frozen=True, kw_only=True)
class ShutdownArgs:
    """The services to shut down; the settings name their manager."""

    settings: Settings
    ingress: Ingress
    cluster: DaskCluster


class Shutdown(pulumi.ComponentResource):
    """A program that runs only on delete."""

    def __init__(
        self, name: str, args: ShutdownArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("dask:swarm:Shutdown", name, None, opts)
        # The scheduler first: without it workers do not wait to hand on their data.
        services = (*args.cluster.services, *args.ingress.services)
        networks = (args.cluster.network, *args.ingress.networks)
        declare_program(
            f"{name}-run",
            "swarm.shutdown",
            # The reloader cannot be scaled, and is on no network.
            pulumi.Output.json_dumps(
                {
                    "services": [service.name for service in services if service.scales],
                    "networks": [network.id for network in networks if network.resource],
                }
            ),
            on={"delete": ""},
            docker_host=args.settings.cluster.docker_host,
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=[service.resource for service in services]
            ),
        )
        self.register_outputs({})
