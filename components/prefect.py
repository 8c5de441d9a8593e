"""Prefect: the stack's server (`prefect` managed), and the variables by which work finds a server.

Owns the server's command line, its volume and its service, and the variables of workers and
notebook. The server has no login: only its networks and the ingress's login keep strangers out.
"""

from dataclasses import dataclass

import pulumi

from components.health_check import HealthCheck
from components.service import (
    DeclaredService,
    ServiceSpec,
    Volume,
    attachments,
    declare_service,
)
from components.shared import DASK_HOME, Shared
from config.names import volume_name
from config.settings import PrefectSettings
from config.workloads import Workload

PORT = 4200
# A new volume gets the permissions of the image's directory at its mount point, and any user may
# write to this directory in every image. Not a resource: the volume outlives the stack.
DATA = "/var/tmp"  # noqa: S108  nothing else runs there
HOME = f"{DATA}/prefect"
# Set by the command line: a service may have one environment variable only.
SETTINGS = {
    "PREFECT_HOME": HOME,
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_API_URL": "/api",  # relative, because the page has several names
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # The server writes to the page's files before it serves them, and the image belongs to root.
    "PREFECT_SERVER_UI_STATIC_DIRECTORY": f"{HOME}/ui",
}


@dataclass(frozen=True, kw_only=True)
class PrefectArgs:
    """What the server shares with the cluster, and its workload."""

    shared: Shared
    workload: Workload


class Prefect(pulumi.ComponentResource):
    """The Prefect server's service."""

    service: DeclaredService

    def __init__(
        self, name: str, args: PrefectArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("dask:swarm:Prefect", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.service = declare_service(f"{name}-service", _spec(args), child)
        self.register_outputs({"url": prefect_url(args.workload.name)})


def _spec(args: PrefectArgs) -> ServiceSpec:
    shared = args.shared
    # By default the old server stops before the new server starts: both would use one database.
    return ServiceSpec(
        workload=args.workload,
        image=shared.image,
        args=server_args(),
        packages=shared.packages,
        start_seconds=shared.start_seconds,
        secrets=shared.pip_config,
        health_check=HealthCheck(port=PORT, path="/api/health"),
        networks=attachments(shared.network, shared.caddy_network_id),
        platforms=shared.platforms,
        volumes=[Volume(name=volume_name(shared.cluster, "prefect"), target=DATA), DASK_HOME],
    )


def server_args() -> list[str]:
    """Return the server's command line."""
    return [
        "env", *(f"{name}={value}" for name, value in SETTINGS.items()),
        "prefect", "server", "start",
        "--host", "0.0.0.0",  # noqa: S104  reachable on Swarm networks only
        "--port", str(PORT),
    ]  # fmt: skip


def prefect_url(service: str) -> str:
    """Return the managed server's URL on the networks of its service."""
    return f"http://{service}:{PORT}"


def api_url(settings: PrefectSettings, service: str) -> str:
    """Return the URL of the API that work uses, empty without a server."""
    managed = f"{prefect_url(service)}/api"
    return {"managed": managed, "external": settings.api_url, "none": ""}[settings.mode]


def prefect_variables(url: str) -> dict[str, str]:
    """Return the variables of work for the API at `url`.

    With a server Prefect must never start a temporary server: a missing server is an error.
    """
    if not url:
        return {}
    return {"PREFECT_API_URL": url, "PREFECT_SERVER_EPHEMERAL_ENABLED": "false"}
