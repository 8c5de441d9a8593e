"""The managed Caddy (`caddyMode` managed): its network, its service and its reloader.

A running task keeps its Swarm configs, and a new task cuts off every websocket. So Caddy starts
with a minimal config that never changes with the sites. The reloader, a small service on the same
nodes, mounts the Caddyfile and loads it over a socket on Caddy's volume. Caddy is healthy only
with the Caddyfile loaded. `caddy/caddyfile.py` owns the text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi

from caddy import caddyfile
from components.health_check import HealthCheck, Script
from components.network import declare_network
from components.service import (
    DeclaredService,
    MountedFile,
    Network,
    Rolling,
    ServiceSpec,
    Volume,
    attachments,
    declare_service,
    mount_config,
)
from config import workloads
from config.names import volume_name
from config.settings import Settings

HEALTH_PORT = 8081
FILES = "/etc/caddy"
SCRIPT = f"{FILES}/reloader.sh"
# A new volume gets the permissions of the image's directory at its mount point, and any user may
# write to this directory in every image. The image's /data belongs to root.
DATA = "/var/tmp"  # noqa: S108  nothing else runs there
# The binary in the official image has this file capability and does not start without it.
CAPABILITIES = ("NET_BIND_SERVICE",)


@dataclass(frozen=True, kw_only=True)
class ManagedCaddyArgs:
    """The settings of the stack, Caddy's image, its files by their names in `caddy/`, its secrets.

    `image_platforms` are the image's, as the registry names them.
    Caddy mounts the secrets even when no file uses them, so that new files never restart it.
    """

    settings: Settings
    image: str | None
    image_platforms: Sequence[str]
    files: Mapping[str, pulumi.Input[str]]
    secrets: Sequence[MountedFile]


@dataclass(frozen=True, kw_only=True)
class ManagedCaddy:
    """The network on which Caddy reaches its upstreams, and its services."""

    network: Network
    services: tuple[DeclaredService, ...]


def declare_managed_caddy(
    name: str, args: ManagedCaddyArgs, opts: pulumi.ResourceOptions
) -> ManagedCaddy:
    """Declare network, Caddy and reloader."""
    if args.image is None:
        raise ValueError("the managed Caddy needs an image")
    # Another name is another network: the old one is removed when no service is on it any more.
    renamable = pulumi.ResourceOptions.merge(
        opts, pulumi.ResourceOptions(delete_before_replace=False)
    )
    network = declare_network(
        f"{name}-network",
        args.settings.caddy.network,
        renamable,
        docker_host=args.settings.cluster.docker_host,
    )
    boot = _config(name, "boot.caddy", caddyfile.boot(), opts)
    files = {"reloader.sh": caddyfile.reloader(), **args.files}
    configs = [_config(name, file, text, opts) for file, text in files.items()]
    caddy = _caddy(args, args.image, network, boot)
    reloader = _reloader(args, args.image, configs)
    return ManagedCaddy(
        network=network,
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


def _caddy(args: ManagedCaddyArgs, image: str, network: Network, boot: MountedFile) -> ServiceSpec:
    return ServiceSpec(
        workload=workloads.caddy(args.settings),
        image=image,
        args=["caddy", "run", "--config", boot.file_name, "--adapter", "caddyfile"],
        # Where Caddy keeps certificates and their keys.
        environment={"XDG_DATA_HOME": DATA},
        health_check=HealthCheck(port=HEALTH_PORT, path="/", by_wget=True),
        networks=attachments(network),
        platforms=args.settings.cluster.platforms,
        image_platforms=args.image_platforms,
        configs=[boot],
        secrets=args.secrets,
        volumes=[_data(args.settings)],
        node_ports=[80, 443],
        capabilities=CAPABILITIES,
    )


def _data(settings: Settings) -> Volume:
    return Volume(name=volume_name(settings.cluster.name, "caddy-data"), target=DATA)


def _reloader(args: ManagedCaddyArgs, image: str, files: list[MountedFile]) -> ServiceSpec:
    return ServiceSpec(
        workload=workloads.caddy_reloader(args.settings),
        image=image,
        args=["sh", SCRIPT],
        health_check=Script(command=["sh", SCRIPT, "healthy"]),
        networks=[],
        platforms=args.settings.cluster.platforms,
        image_platforms=args.image_platforms,
        configs=files,
        volumes=[_data(args.settings)],
        capabilities=CAPABILITIES,
        # Once the reloader is healthy, Caddy has accepted the Caddyfile.
        rolling=Rolling(monitor="1s"),
    )
