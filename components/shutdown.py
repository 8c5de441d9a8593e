"""The orderly end: a resource that does something only when it is deleted, before all others.

Owns when the program in `swarm/shutdown.py` runs. It depends on every service and nothing depends
on it, so a `destroy` begins with it, and the networks are free when their turn comes: the provider
does not try again when the Swarm still sees a task on one.
"""

import json
from dataclasses import dataclass

import pulumi
import pulumi_command as command

from components.cluster import DaskCluster
from components.ingress import Front
from config.settings import Settings

COMMAND = "exec .venv/bin/python -m swarm.shutdown"


@dataclass(frozen=True, kw_only=True)
class ShutdownArgs:
    """What is to be ended, and where its manager is."""

    settings: Settings
    front: Front
    cluster: DaskCluster


class Shutdown(pulumi.ComponentResource):
    """A Command with nothing to create."""

    def __init__(
        self, name: str, args: ShutdownArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("dask:swarm:Shutdown", name, None, opts)
        # The scheduler first: workers that have lost it have nobody to hand their data to.
        services = (*args.cluster.services, *args.front.services)
        command.local.Command(
            f"{name}-run",
            delete=COMMAND,
            environment={"DOCKER_HOST": args.settings.docker_host},
            # What does not scale, the reloader, is on none of the networks.
            stdin=json.dumps({"services": [each.name for each in services if each.scales]}),
            logging=command.local.Logging.STDERR,
            add_previous_output_in_env=False,
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=[each.resource for each in services]
            ),
        )
        self.register_outputs({})
