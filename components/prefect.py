"""Prefect: the stack's server (`prefect` managed), and the variables by which work finds a server.

Owns the server's command line, its guard, its volume and its service, and the variables of workers
and notebook. Prefect has no login: the guard (`images/prefect_server.py`) answers the cluster's
network, and Caddy's requests with the ingress's key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pulumi

from components.health_check import HealthCheck
from components.service import (
    DeclaredService,
    MountedFile,
    ServiceSpec,
    Volume,
    attachments,
    declare_service,
    mount_config,
)
from components.shared import DASK_HOME, Shared
from config.names import volume_name
from config.settings import PrefectSettings
from config.workloads import Workload

PORT = 4200
GUARD_SOURCE = Path(__file__).parent.parent / "images" / "prefect_server.py"
GUARD_FOLDER = "/etc/dask-swarm"
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
    """What the server shares with the cluster, its workload and its ingress key, if any."""

    shared: Shared
    workload: Workload
    ingress_key: MountedFile | None


class Prefect(pulumi.ComponentResource):
    """The Prefect server's service."""

    service: DeclaredService

    def __init__(
        self, name: str, args: PrefectArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("dask:swarm:Prefect", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        source = GUARD_SOURCE.read_text(encoding="utf-8")
        guard = mount_config(f"{name}-guard", f"{GUARD_FOLDER}/{GUARD_SOURCE.name}", source, child)
        spec = _spec(args, [guard, args.shared.subnets])
        self.service = declare_service(f"{name}-service", spec, child)
        self.register_outputs({"url": prefect_url(args.workload.name)})


def _spec(args: PrefectArgs, configs: Sequence[MountedFile]) -> ServiceSpec:
    shared = args.shared
    keys = [args.ingress_key] if args.ingress_key else []
    # By default the old server stops before the new server starts: both would use one database.
    return ServiceSpec(
        workload=args.workload,
        image=shared.image,
        args=server_args(),
        packages=shared.packages,
        start_seconds=shared.start_seconds,
        secrets=[*keys, *shared.pip_config],
        configs=configs,
        health_check=HealthCheck(port=PORT, path="/api/health"),
        networks=attachments(shared.network, shared.caddy_network_id),
        platforms=shared.platforms,
        image_platforms=shared.image_platforms,
        volumes=[Volume(name=volume_name(shared.cluster, "prefect"), target=DATA), DASK_HOME],
    )


def server_args() -> list[str]:
    """Return the server's command line."""
    return [
        "env", *(f"{name}={value}" for name, value in SETTINGS.items()),
        # As `prefect server start` does, with the guard around Prefect's application.
        "uvicorn", "--app-dir", GUARD_FOLDER,
        "--factory", f"{GUARD_SOURCE.stem}:create_guarded_app",
        "--host", "0.0.0.0",  # noqa: S104  the guard goes by the client's address
        "--port", str(PORT),
        "--no-proxy-headers",  # by which a client could have another address
        "--log-level", "warning",
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
