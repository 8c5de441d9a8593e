"""The one place that knows what a well-formed Swarm service needs.

Owns the rights of all containers, the defaults that the provider would otherwise send wrong (grace
period, init, restart policy, platforms, file modes), and the label with the hash of what is
declared, by which the health probe knows whether Swarm has it yet. It does not know Dask.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pulumi
import pulumi_docker as docker

from components.health_check import HealthCheck, Script
from config.workloads import START_SECONDS, ResourceLimit, Workload
from swarm.nodes import platform_constraints
from swarm.snapshot import DECLARED_HASH_LABEL

USER = "1000:1000"
# They ask updaters to leave the services alone: what Shepherd and Gantry change is drift.
UPDATER_LABELS = {"gantry.services.excluded": "true", "shepherd.autodeploy": "false"}


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A directory on the disk of the node that a task runs on.

    A named volume stays when the service goes. A volume without a name goes with its container.
    """

    target: str
    name: str | None = None


# On disk, because a tmpfs takes the container's memory: Dask's workers spill to this directory.
TMP = Volume(target="/tmp")  # noqa: S108  the containers' own


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network by its id, its ranges, and its `resource` if the stack declares it."""

    id: pulumi.Input[str]
    subnets: pulumi.Input[Sequence[str]] = ()
    resource: pulumi.Resource | None = None


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """A network that a service is on, and the service's extra names on it."""

    network: Network
    aliases: Sequence[str] = ()


def attachments(
    network: Network, *others: pulumi.Input[str] | None, aliases: Sequence[str] = ()
) -> list[Attachment]:
    """Return the networks of a service; `aliases` are names on the first network only."""
    joined = [Attachment(network=Network(id=other)) for other in others if other is not None]
    return [Attachment(network=network, aliases=aliases), *joined]


@dataclass(frozen=True, kw_only=True)
class MountedFile:
    """A Swarm secret or config; a secret's `file_name` is absolute or is in /run/secrets."""

    id: pulumi.Input[str]
    name: pulumi.Input[str]
    file_name: str


@dataclass(frozen=True, kw_only=True)
class Rolling:
    """How new tasks replace old tasks: how many at once, with which pause."""

    parallelism: int = 1
    delay: str = "0s"
    monitor: str = "5s"  # a task that fails within it fails the update


@dataclass(frozen=True, kw_only=True)
class ServiceSpec:
    """In what a service differs from the others.

    An image that installs `packages` at start does so as its own user, into its root file system.
    Without packages, a container runs as `USER`, and can write to its volumes only.
    """

    workload: Workload
    image: str
    args: Sequence[str]
    health_check: HealthCheck | Script
    networks: Sequence[Attachment]
    platforms: Sequence[str]  # where tasks may run, such as linux/amd64
    image_platforms: Sequence[str] = ()  # all that the registry names for the image
    environment: Mapping[str, str] = field(default_factory=dict)
    packages: Sequence[str] = ()
    start_seconds: int = 0  # that the installation of the packages may take
    secrets: Sequence[MountedFile] = ()
    configs: Sequence[MountedFile] = ()
    volumes: Sequence[Volume] = ()
    node_ports: Sequence[int] = ()  # TCP ports that a task takes on its node
    capabilities: Sequence[str] = ()
    search_domains: Sequence[str] = ()  # networks where names without a dot are looked up first
    labels: Mapping[str, str] = field(default_factory=dict)
    rolling: Rolling = Rolling()
    grace_period: str = "30s"  # from SIGTERM to SIGKILL

    def __post_init__(self) -> None:
        """Refuse a spec that would restart tasks without reason."""
        if len(_environment(self)) > 1:
            raise ValueError(
                f"{self.workload.name} has more than one environment variable. The provider sends "
                "them in random order, and Swarm restarts the tasks when the order changes."
            )


@dataclass(frozen=True, kw_only=True)
class DeclaredService:
    """A declared service: its name, the hash of all its inputs and its resource.

    A global service cannot be scaled (`scales`).
    """

    name: str
    declared_hash: pulumi.Output[str]
    resource: docker.Service
    scales: bool


def declare_service(
    name: str, spec: ServiceSpec, opts: pulumi.ResourceOptions, *, held_hash: str = ""
) -> DeclaredService:
    """Declare `spec` under the logical name `name`, labelled with its hash.

    With `held_hash` the service must stay as it is: no other hash is declared.
    """
    inputs = service_inputs(spec)
    own_labels = {**UPDATER_LABELS, **spec.labels}
    declared = pulumi.Output.json_dumps([inputs, own_labels], sort_keys=True)
    declared_hash = declared.apply(short_hash)
    if held_hash:
        declared_hash = declared_hash.apply(partial(_hold, spec.workload.name, held_hash))
    values: dict[str, pulumi.Input[str]] = {**own_labels, DECLARED_HASH_LABEL: declared_hash}
    labels = [docker.ServiceLabelArgs(label=label, value=text) for label, text in values.items()]
    resource = docker.Service(name, **inputs, labels=labels, opts=_replaced(spec, opts))
    return DeclaredService(
        name=spec.workload.name,
        declared_hash=declared_hash,
        resource=resource,
        scales=spec.workload.replicas != "everywhere",
    )


def _hold(service: str, held_hash: str, declared_hash: str) -> str:
    if declared_hash != held_hash:
        raise pulumi.RunError(
            f"{service}: not updated, because some of its tasks wait for a node that is not "
            "available, and Swarm would wait for it in the middle of the update. Its "
            "configuration has changed, or its certificate has ended and is renewed\n"
            "fix: bring the node back, or set workers to what fits now; see the warning"
        )
    return declared_hash


def _replaced(spec: ServiceSpec, opts: pulumi.ResourceOptions) -> pulumi.ResourceOptions:
    # Otherwise the engine would update a service in place, after the removal of its network.
    networks = [attached.network.resource for attached in spec.networks]
    return pulumi.ResourceOptions.merge(
        opts, pulumi.ResourceOptions(replace_with=[network for network in networks if network])
    )


def package_environment(packages: Sequence[str]) -> dict[str, str]:
    """Return the variable by which the official images install `packages` at start."""
    return {"EXTRA_PIP_PACKAGES": " ".join(packages)} if packages else {}


def mount_config(
    name: str, file_name: str, text: pulumi.Input[str], opts: pulumi.ResourceOptions
) -> MountedFile:
    """Declare an auto-named config with `text` under the logical name `name`."""
    config = docker.ServiceConfig(name, data=encode_base64(text), opts=opts)
    return MountedFile(id=config.id, name=config.name, file_name=file_name)


def mount_secret(
    name: str, file_name: str, text: pulumi.Input[str], opts: pulumi.ResourceOptions
) -> MountedFile:
    """Declare an auto-named secret with `text` under the logical name `name`.

    `docker.Secret` marks its data as secret, so the state has it encrypted.
    """
    secret = docker.Secret(name, data=encode_base64(text), opts=opts)
    return MountedFile(id=secret.id, name=secret.name, file_name=file_name)


def encode_base64(text: pulumi.Input[str]) -> pulumi.Output[str]:
    """Return `text` in base64, as configs and secrets take it."""
    return pulumi.Output.from_input(text).apply(lambda t: base64.b64encode(t.encode()).decode())


def spell_duration(seconds: int) -> str:
    """Return seconds as Go prints them, which the provider compares: `5m`, `1h0m30s`."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}h" if hours else ""
    text += f"{minutes}m" if minutes or (hours and rest) else ""
    return text + (f"{rest}s" if rest or not text else "")


def short_hash(text: str) -> str:
    """Return 16 hexadecimal digits that change with `text`."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def service_inputs(spec: ServiceSpec) -> dict[str, Any]:
    """Return the inputs of `docker.Service` for `spec`, without its labels."""
    return {
        "name": spec.workload.name,
        "mode": _mode(spec.workload),
        "task_spec": {
            "container_spec": _container(spec),
            "resources": {
                "limits": _resources(spec.workload.limit),
                "reservation": _resources(spec.workload.reservation),
            },
            # Dask's workers exit with status 0 when they lose the scheduler, so `on-failure` would
            # not restart them. After the window a start counts as a success.
            "restart_policy": {"condition": "any", "delay": "1s", "window": "30s"},
            "placement": _placement(spec),
            "networks_advanceds": [
                {"id": attached.network.id, "aliases": list(attached.aliases)}
                for attached in spec.networks
            ],
            "log_driver": {
                "name": "json-file",
                "options": {"max-size": "10m", "max-file": "3"},
            },
        },
        # No virtual IP: IPVS drops connections that are idle for 15 minutes, as Dask's may be.
        "endpoint_spec": _endpoint(spec),
        "update_config": _roll(spec, failure_action="rollback"),
        "rollback_config": _roll(spec, failure_action="pause"),
    }


def _mode(workload: Workload) -> dict[str, Any]:
    if workload.replicas == "everywhere":
        return {"global_": True}
    return {"replicated": {"replicas": workload.replicas}}


def _container(spec: ServiceSpec) -> dict[str, Any]:
    check = spec.health_check
    return {
        "image": spec.image,
        "args": list(spec.args),
        "env": _environment(spec),
        "init": True,
        "cap_drops": ["ALL"],
        "mounts": [_mount(volume) for volume in (TMP, *spec.volumes)],
        **_extras(spec),
        "stop_grace_period": spec.grace_period,
        "healthcheck": {
            "tests": ["CMD", *check.command],
            "interval": "1s",
            "timeout": "30s",
            # A computation that holds the interpreter's lock stops the answers too: like Dask
            # itself (distributed.scheduler.worker-ttl), allow about 5 minutes without an answer.
            "retries": 12,
            "start_period": spell_duration(max(spec.start_seconds, START_SECONDS)),
        },
        "secrets": [
            {
                "secret_id": secret.id,
                "secret_name": secret.name,
                "file_name": secret.file_name,
                # Readable for the images' usual user and for a root without capabilities.
                "file_uid": "1000",
                "file_gid": "0",
                "file_mode": 0o440,
            }
            for secret in spec.secrets
        ],
        "configs": [
            {
                "config_id": config.id,
                "config_name": config.name,
                "file_name": config.file_name,
                "file_uid": "0",
                "file_gid": "0",
                "file_mode": 0o444,
            }
            for config in spec.configs
        ],
    }


def _environment(spec: ServiceSpec) -> dict[str, str]:
    return {**spec.environment, **package_environment(spec.packages)}


def _mount(volume: Volume) -> dict[str, str]:
    # Without labels: with them the provider would replace the service.
    source = {"source": volume.name} if volume.name else {}
    return {"type": "volume", "target": volume.target, **source}


def _extras(spec: ServiceSpec) -> dict[str, Any]:
    """Return the inputs that only some services have; an empty list would show as a change."""
    extras: dict[str, Any] = {}
    if spec.capabilities:
        extras["cap_adds"] = list(spec.capabilities)
    if not spec.packages:
        extras |= {"user": USER, "read_only": True}
    if spec.search_domains:
        extras["dns_config"] = {
            "nameservers": [],
            "searches": list(spec.search_domains),
            # With the engine's default `ndots:0` the search domains would come last.
            "options": ["ndots:1"],
        }
    return extras


def _endpoint(spec: ServiceSpec) -> dict[str, Any]:
    # On the node itself: the routing mesh would need IPVS and hide the clients' addresses.
    ports = [
        {"target_port": port, "published_port": port, "protocol": "tcp", "publish_mode": "host"}
        for port in spec.node_ports
    ]
    return {"mode": "dnsrr", "ports": ports} if ports else {"mode": "dnsrr"}


def _resources(limit: ResourceLimit) -> dict[str, int]:
    return {"nano_cpus": limit.nano_cpus, "memory_bytes": limit.memory_bytes}


def _placement(spec: ServiceSpec) -> dict[str, Any]:
    rules = platform_constraints(spec.platforms, spec.image_platforms)
    # The provider creates a service with all platforms of its image, whatever is declared.
    # Other platforms would show as a change at the next refresh.
    platforms = sorted({*spec.image_platforms}) or spec.platforms
    parts = [platform.partition("/") for platform in platforms]
    # The provider drops this name, because 32-bit nodes have other names.
    named = [(system, "" if name == "arm" else name) for system, _, name in parts]
    return {
        "constraints": list(dict.fromkeys([*spec.workload.constraints, *rules])),
        "max_replicas": spec.workload.per_node,
        "platforms": [{"os": system, "architecture": name} for system, name in named],
    }


def _roll(spec: ServiceSpec, *, failure_action: str) -> dict[str, Any]:
    return {
        "parallelism": spec.rolling.parallelism,
        "delay": spec.rolling.delay,
        "order": "start-first" if spec.workload.start_first else "stop-first",
        "monitor": spec.rolling.monitor,
        "max_failure_ratio": "0.0",
        "failure_action": failure_action,
    }
