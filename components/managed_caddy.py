"""The stack's own Caddy (`caddyMode` managed): its network, its service, who hands it its files.

Swarm configs do not change under a running task, and a new task cuts off every websocket. So Caddy
is declared with next to nothing, which stays as it is whatever the sites are; the reloader, a
small service on the same nodes, mounts the files and hands them over by a socket on Caddy's
volume. Caddy is healthy only when it has them. The text itself is `caddyfile.py`'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import pulumi
import pulumi_docker as docker

from caddy import caddyfile
from components.health_check import HealthCheck, Script
from components.service import (
    Attachment,
    DeclaredService,
    MountedFile,
    Rolling,
    ServiceSpec,
    Volume,
    declare_service,
    mount_config,
)
from config.settings import Settings
from config.types import memory
from config.workloads import SMALL, ResourceLimit

SERVICE = "dask_caddy"
RELOADER = "dask_caddy_reloader"
LIMIT = ResourceLimit(cpus=Decimal(1), memory_bytes=memory("256MiB"))
HEALTH_PORT = 8081
FILES = "/etc/caddy"
SCRIPT = f"{FILES}/reloader.sh"
# A new volume takes over who may write to it from the image's directory in its place, and this one
# is open to any user in every image. Caddy's own, /data, belongs to root.
DATA = Volume(
    name="dask-caddy-data",
    target="/var/tmp",  # noqa: S108  nothing else runs there
)
USER = "1000:1000"
# The official image's program carries it and would not start without.
CAPABILITIES = ("NET_BIND_SERVICE",)


@dataclass(frozen=True, kw_only=True)
class OwnCaddyArgs:
    """The settings of the stack, Caddy's image, its files by their names in `caddy/`, its secrets.

    Caddy has the secrets even where no file names them: no change of the files costs it its task.
    """

    settings: Settings
    image: str | None
    files: Mapping[str, pulumi.Input[str]]
    secrets: Sequence[MountedFile]


@dataclass(frozen=True, kw_only=True)
class OwnCaddy:
    """The network that Caddy is reached by, and the services to wait for."""

    network_id: pulumi.Output[str]
    services: tuple[DeclaredService, ...]


def declare_own_caddy(name: str, args: OwnCaddyArgs, opts: pulumi.ResourceOptions) -> OwnCaddy:
    """Declare network, Caddy and reloader."""
    if args.image is None:
        raise ValueError("a managed Caddy has an image")
    network = docker.Network(
        f"{name}-network", name=args.settings.caddy_network, driver="overlay", opts=opts
    )
    boot = _config(name, "boot.caddy", caddyfile.boot(), opts)
    files = {"reloader.sh": caddyfile.reloader(), **args.files}
    handed = [_config(name, file, text, opts) for file, text in files.items()]
    caddy = _caddy(args, args.image, network.id, boot)
    reloader = _reloader(args.settings, args.image, handed)
    return OwnCaddy(
        network_id=network.id,
        services=(
            declare_service(f"{name}-caddy", caddy, opts),
            declare_service(f"{name}-reloader", reloader, opts),
        ),
    )


def _config(
    name: str, file: str, text: pulumi.Input[str], opts: pulumi.ResourceOptions
) -> MountedFile:
    logical = f"{name}-{file.removesuffix('.caddy').lower()}"
    return mount_config(logical, f"{FILES}/{file}", text, opts)


def _caddy(
    args: OwnCaddyArgs, image: str, network_id: pulumi.Input[str], boot: MountedFile
) -> ServiceSpec:
    return ServiceSpec(
        name=SERVICE,
        image=image,
        args=["caddy", "run", "--config", boot.file_name, "--adapter", "caddyfile"],
        # Below it Caddy keeps certificates and their keys.
        environment={"XDG_DATA_HOME": DATA.target},
        limit=LIMIT,
        reservation=LIMIT.at_most(SMALL),
        health_check=HealthCheck(port=HEALTH_PORT, path="/", by_wget=True),
        networks=[Attachment(network_id=network_id)],
        constraints=args.settings.control_placement,
        platform=args.settings.platform,
        configs=[boot],
        secrets=args.secrets,
        volumes=[DATA],
        node_ports=[80, 443],
        capabilities=CAPABILITIES,
        user=USER,
    )


def _reloader(settings: Settings, image: str, files: list[MountedFile]) -> ServiceSpec:
    return ServiceSpec(
        name=RELOADER,
        image=image,
        args=["sh", SCRIPT],
        # Caddy is on one of the nodes that fit, and may move to another.
        replicas="everywhere",
        limit=LIMIT,
        reservation=LIMIT.at_most(SMALL),
        health_check=Script(command=["sh", SCRIPT, "healthy"]),
        networks=[],
        constraints=settings.control_placement,
        platform=settings.platform,
        configs=files,
        volumes=[DATA],
        capabilities=CAPABILITIES,
        user=USER,
        # When it is healthy, Caddy has said yes.
        rolling=Rolling(monitor="1s"),
    )
