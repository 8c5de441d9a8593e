"""The one place that knows what a well-formed Swarm service needs.

Owns: the defaults that every service of the cluster shares and that the provider, left alone,
sends wrong (grace period, init, restart policy, platforms, file modes), and the revision label by
which the health probe knows which spec a task was made from. It does not know Dask.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pulumi
import pulumi_docker as docker

from components.health_check import HealthCheck, Script
from config.types import Platform
from config.workloads import ResourceLimit

REVISION_LABEL = "dask.swarm/revision"


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A named volume of the node that a task runs on; it stays when the service goes."""

    name: str
    target: str


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """A network that a service is on, by id, and the extra names that it has there."""

    network_id: pulumi.Input[str]
    aliases: Sequence[str] = ()


def attachments(
    network_id: pulumi.Input[str],
    caddy_network_id: pulumi.Input[str] | None,
    aliases: Sequence[str] = (),
) -> list[Attachment]:
    """Return the networks of a service that Caddy, where there is one, must reach.

    `aliases` are names on the first network alone.
    """
    ours = Attachment(network_id=network_id, aliases=aliases)
    if caddy_network_id is None:
        return [ours]
    return [ours, Attachment(network_id=caddy_network_id)]


@dataclass(frozen=True, kw_only=True)
class MountedFile:
    """A Swarm secret or config and the absolute path (a secret: the name) of its file."""

    id: pulumi.Input[str]
    name: pulumi.Input[str]
    file_name: str


@dataclass(frozen=True, kw_only=True)
class Rolling:
    """How new tasks replace old ones: how many at once and with which pause between them.

    With `start_first` the old task serves until the new one is healthy, which takes room for both.
    """

    parallelism: int = 1
    delay: str = "0s"
    start_first: bool = False
    monitor: str = "5s"  # for which a task that was healthy may still fail its update


@dataclass(frozen=True, kw_only=True)
class ServiceSpec:
    """In what one service differs from another."""

    name: str
    image: str
    args: Sequence[str]
    limit: ResourceLimit
    reservation: ResourceLimit
    health_check: HealthCheck | Script
    networks: Sequence[Attachment]
    constraints: Sequence[str]
    platform: Platform
    replicas: int | Literal["everywhere"] = 1  # or one on every node that fits
    max_replicas_per_node: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Sequence[MountedFile] = ()
    configs: Sequence[MountedFile] = ()
    volumes: Sequence[Volume] = ()
    node_ports: Sequence[int] = ()  # TCP ports that a task takes on its node
    capabilities: Sequence[str] = ()
    search_domains: Sequence[str] = ()  # networks where names without a dot are looked up first
    user: str | None = None  # the image's own unless given
    rolling: Rolling = Rolling()
    grace_period: str = "30s"  # from SIGTERM to SIGKILL

    def __post_init__(self) -> None:
        """Refuse what would restart tasks without reason."""
        if len(self.environment) > 1:
            raise ValueError(
                f"{self.name}: more than one environment variable. The provider sends them in "
                "random order and the Swarm restarts the tasks when the order changes."
            )


@dataclass(frozen=True, kw_only=True)
class DeclaredService:
    """A declared service: its name, its revision (a hash of its whole spec) and its resource.

    One that is on every node has no number of tasks that could be another (`scales`).
    """

    name: str
    revision: pulumi.Output[str]
    resource: docker.Service
    scales: bool


def declare_service(name: str, spec: ServiceSpec, opts: pulumi.ResourceOptions) -> DeclaredService:
    """Declare `spec` under the logical name `name`, labelled with its revision."""
    inputs = service_inputs(spec)
    revision = pulumi.Output.json_dumps(inputs, sort_keys=True).apply(fingerprint)
    labels = [docker.ServiceLabelArgs(label=REVISION_LABEL, value=revision)]
    resource = docker.Service(name, **inputs, labels=labels, opts=opts)
    return DeclaredService(
        name=spec.name,
        revision=revision,
        resource=resource,
        scales=spec.replicas != "everywhere",
    )


def package_environment(packages: Sequence[str]) -> dict[str, str]:
    """Return what makes the official images install `packages` at start; others ignore it."""
    return {"EXTRA_PIP_PACKAGES": " ".join(packages)} if packages else {}


def mount_config(
    name: str, file_name: str, text: pulumi.Input[str], opts: pulumi.ResourceOptions
) -> MountedFile:
    """Declare an auto-named config with `text` under the logical name `name`, for a service."""
    config = docker.ServiceConfig(name, data=encoded(text), opts=opts)
    return MountedFile(id=config.id, name=config.name, file_name=file_name)


def mount_secret(
    name: str, file_name: str, text: pulumi.Input[str], opts: pulumi.ResourceOptions
) -> MountedFile:
    """Declare an auto-named secret with `text` under the logical name `name`, for services."""
    secret = docker.Secret(name, data=encoded(text), opts=opts)
    return MountedFile(id=secret.id, name=secret.name, file_name=file_name)


def encoded(text: pulumi.Input[str]) -> pulumi.Output[str]:
    """Return `text` as configs and secrets take it, in base64."""
    return pulumi.Output.from_input(text).apply(lambda t: base64.b64encode(t.encode()).decode())


def fingerprint(text: str) -> str:
    """Return 16 hexadecimal digits that change with `text`."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def service_inputs(spec: ServiceSpec) -> dict[str, Any]:
    """Return the inputs of `docker.Service` for `spec`, without its labels."""
    return {
        "name": spec.name,
        "mode": _mode(spec),
        "task_spec": {
            "container_spec": _container(spec),
            "resources": {
                "limits": _resources(spec.limit),
                "reservation": _resources(spec.reservation),
            },
            # Dask's workers end with status 0 when the scheduler is lost, so `on-failure` would
            # leave none. A window is the time after which a start counts as a success.
            "restart_policy": {"condition": "any", "delay": "1s", "window": "30s"},
            "placement": _placement(spec),
            "networks_advanceds": [
                {"id": each.network_id, "aliases": list(each.aliases)} for each in spec.networks
            ],
            "log_driver": {
                "name": "json-file",
                "options": {"max-size": "10m", "max-file": "3"},
            },
        },
        # No virtual IP: IPVS drops connections that were idle for 15 minutes, as Dask's may be.
        "endpoint_spec": _endpoint(spec),
        "update_config": _roll(spec.rolling, failure_action="rollback"),
        "rollback_config": _roll(spec.rolling, failure_action="pause"),
    }


def _mode(spec: ServiceSpec) -> dict[str, Any]:
    if spec.replicas == "everywhere":
        return {"global_": True}
    return {"replicated": {"replicas": spec.replicas}}


def _container(spec: ServiceSpec) -> dict[str, Any]:
    check = spec.health_check
    return {
        "image": spec.image,
        "args": list(spec.args),
        "env": dict(spec.environment),
        "init": True,
        "cap_drops": ["ALL"],
        **_extras(spec),
        "stop_grace_period": spec.grace_period,
        "healthcheck": {
            "tests": ["CMD", *check.command],
            "interval": "1s",
            "timeout": "30s",
            # A task that holds the interpreter's lock stops the answers too: like Dask itself
            # (distributed.scheduler.worker-ttl), allow it about 5 minutes of silence.
            "retries": 12,
            # Covers the installation of extra packages at start, by images that do so.
            "start_period": "5m",
        },
        "secrets": [
            {
                "secret_id": each.id,
                "secret_name": each.name,
                "file_name": each.file_name,
                # Readable for the images' usual user and for a root without capabilities.
                "file_uid": "1000",
                "file_gid": "0",
                "file_mode": 0o440,
            }
            for each in spec.secrets
        ],
        "configs": [
            {
                "config_id": each.id,
                "config_name": each.name,
                "file_name": each.file_name,
                "file_uid": "0",
                "file_gid": "0",
                "file_mode": 0o444,
            }
            for each in spec.configs
        ],
    }


def _extras(spec: ServiceSpec) -> dict[str, Any]:
    """Return what only some services have; an empty list would show as a change."""
    extras: dict[str, Any] = {}
    if spec.capabilities:
        extras["cap_adds"] = list(spec.capabilities)
    if spec.user:
        extras["user"] = spec.user
    if spec.search_domains:
        extras["dns_config"] = {
            "nameservers": [],
            "searches": list(spec.search_domains),
            # With the engine's own `ndots:0` the search domains would come last.
            "options": ["ndots:1"],
        }
    if spec.volumes:
        # Without labels: to mount one that has them, the provider makes the service anew.
        extras["mounts"] = [
            {"type": "volume", "source": each.name, "target": each.target} for each in spec.volumes
        ]
    return extras


def _endpoint(spec: ServiceSpec) -> dict[str, Any]:
    # On the node itself, without the routing mesh: that would need IPVS and hide the clients'
    # addresses.
    ports = [
        {"target_port": port, "published_port": port, "protocol": "tcp", "publish_mode": "host"}
        for port in spec.node_ports
    ]
    return {"mode": "dnsrr", "ports": ports} if ports else {"mode": "dnsrr"}


def _resources(limit: ResourceLimit) -> dict[str, int]:
    return {"nano_cpus": limit.nano_cpus, "memory_bytes": limit.memory_bytes}


def _placement(spec: ServiceSpec) -> dict[str, Any]:
    platform = spec.platform
    return {
        "constraints": list(spec.constraints),
        "max_replicas": spec.max_replicas_per_node,
        # Left out, the Swarm fills it in and the next refresh reports a change.
        "platforms": [{"os": platform.os, "architecture": platform.architecture}],
    }


def _roll(rolling: Rolling, *, failure_action: str) -> dict[str, Any]:
    return {
        "parallelism": rolling.parallelism,
        "delay": rolling.delay,
        "order": "start-first" if rolling.start_first else "stop-first",
        "monitor": rolling.monitor,
        "max_failure_ratio": "0.0",
        "failure_action": failure_action,
    }
