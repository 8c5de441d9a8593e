"""Prefect: the stack's own server (`prefect` managed), and what work must know of any server.

Owns the server's command line, its volume and its service, and the variables that workers and
notebook get. The server has no login of its own: its networks and the login in front are what
keeps strangers out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi

from components.health_check import HealthCheck
from components.service import (
    DeclaredService,
    ServiceSpec,
    Volume,
    attachments,
    declare_service,
    package_environment,
)
from config.types import Platform
from config.workloads import ResourceLimit

SERVICE = "dask_prefect"
PORT = 4200
API_URL = f"http://{SERVICE}:{PORT}/api"
# A new volume takes over who may write to it from the image's directory in its place, and this one
# is open to any user in every image. Not a resource: it outlives the stack.
DATA = Volume(
    name="dask-prefect",
    target="/var/tmp",  # noqa: S108  nothing else runs there
)
HOME = f"{DATA.target}/prefect"
# No variables of the service, of which there may be one only.
SETTINGS = {
    "PREFECT_HOME": HOME,
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_API_URL": "/api",  # under whatever name the page is asked for
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # The page's files are filled in before they are served, and the image belongs to root.
    "PREFECT_SERVER_UI_STATIC_DIRECTORY": f"{HOME}/ui",
}


@dataclass(frozen=True, kw_only=True)
class PrefectArgs:
    """What the server is made of and where it runs; `caddy_network_id` is None without one."""

    image: str
    limit: ResourceLimit
    reservation: ResourceLimit
    constraints: Sequence[str]
    platform: Platform
    packages: Sequence[str] = ()
    network_id: pulumi.Input[str]
    caddy_network_id: pulumi.Input[str] | None


class Prefect(pulumi.ComponentResource):
    """The service `dask_prefect`."""

    service: DeclaredService
    url = f"http://{SERVICE}:{PORT}"

    def __init__(
        self, name: str, args: PrefectArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("dask:swarm:Prefect", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.service = declare_service(f"{name}-service", _spec(args), child)
        self.register_outputs({"url": self.url})


def _spec(args: PrefectArgs) -> ServiceSpec:
    # The old server stops before the new one starts: there is one database.
    return ServiceSpec(
        name=SERVICE,
        image=args.image,
        args=server_args(),
        environment=package_environment(args.packages),
        limit=args.limit,
        reservation=args.reservation,
        health_check=HealthCheck(port=PORT, path="/api/health"),
        networks=attachments(args.network_id, args.caddy_network_id),
        constraints=args.constraints,
        platform=args.platform,
        volumes=[DATA],
    )


def server_args() -> list[str]:
    """Return the server's command line."""
    return [
        "env", *(f"{name}={value}" for name, value in SETTINGS.items()),
        "prefect", "server", "start",
        "--host", "0.0.0.0",  # noqa: S104  only Swarm networks lead here, no port is published
        "--port", str(PORT),
    ]  # fmt: skip


def api_url(mode: str, external: str) -> str:
    """Return the API that workers use (`prefect`, `prefectApiUrl`), empty without a server."""
    return {"managed": API_URL, "external": external, "none": ""}[mode]


def prefect_variables(url: str) -> dict[str, str]:
    """Return the variables of work for the API at `url`.

    Without a server Prefect starts one in each process that needs it; with one it never may: a
    server that is missing is an error.
    """
    if not url:
        return {}
    return {"PREFECT_API_URL": url, "PREFECT_SERVER_EPHEMERAL_ENABLED": "false"}
