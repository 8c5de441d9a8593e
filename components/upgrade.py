"""The upgrade check as a resource: it comes before running services get other images.

Owns when the check runs: whenever the Swarm runs other images than the configuration names, or
replaces the scheduler and may have to wait for computations. The program in `health/upgrade.py`
owns what it checks. A first deployment is not checked: it has nothing to lose, and its proof
compares the versions as soon.
"""

import json
import secrets
from dataclasses import dataclass
from typing import Any

import pulumi

from components.program import declare_program
from components.scheduler import DASHBOARD_PORT
from config.names import network_name, service_name
from config.settings import Settings
from swarm.site import Site


@dataclass(frozen=True, kw_only=True)
class UpgradeCheckArgs:
    """The settings of the stack, and the facts of its Swarm."""

    settings: Settings
    site: Site


class UpgradeCheck(pulumi.ComponentResource):
    """A program that runs before an upgrade, which must depend on the resources in `first`."""

    first: list[pulumi.Resource]

    def __init__(
        self, name: str, args: UpgradeCheckArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("dask:swarm:UpgradeCheck", name, None, opts)
        request = upgrade_request(args)
        # A check may have passed in a deployment that then failed. The next one checks again.
        attempt = [secrets.token_hex(8)] if request else []
        # Without a change the last check stays as it was.
        ignored = [] if request else ["environment", "stdin", "triggers"]
        declare_program(
            f"{name}-run",
            "health.upgrade",
            json.dumps(request, sort_keys=True),
            on={"create": ""},
            triggers=attempt,
            docker_host=args.settings.cluster.docker_host,
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=ignored),
        )
        self.first = [self] if request else []
        self.register_outputs({})


def upgrade_request(args: UpgradeCheckArgs) -> dict[str, Any]:
    """Return the request that `health/upgrade.py` reads, empty if there is nothing to check."""
    settings, site = args.settings, args.site
    idle_seconds = settings.health.idle_deadline
    if not (site.changed_images or (site.replaces_scheduler and idle_seconds)):
        return {}
    cluster = settings.cluster
    images = {"image": site.image, "notebookImage": site.notebook_image}
    return {
        "scheduler": service_name(cluster.name, "scheduler"),
        "port": DASHBOARD_PORT,
        "network_name": network_name(cluster.name),
        "images": images if site.changed_images else {},
        "changed": list(site.changed_images),
        "packages": list(cluster.packages),
        "constraints": list(settings.shared.control_placement),
        "platforms": list(cluster.platforms),
        "deadline_seconds": settings.health.deadline,
        "idle_seconds": idle_seconds,
    }
