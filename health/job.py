"""The one-shot services of probes: their spec, their run, and the leftovers of earlier runs."""

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from docker import types

from health import bundle
from health.log_reader import LogReader
from health.request import Request
from health.timing import TIMING, Deadline, Timing
from swarm import UnfitError
from swarm.causes import error_of
from swarm.manager import PROBE_LABELS, Manager
from swarm.snapshot import ENDED, Snapshot, epoch_seconds

DEADLINE_LABEL = "dask.swarm/deadline"  # the launcher's deadline, in seconds since 1970

_CPUS = 10**9
_MEMORY = 512 * 2**20
_USER = "1000:1000"
# Volumes that go with the container: temporary files, and the home in the notebook's images.
_WRITABLE = ("/tmp", "/home/jovyan")  # noqa: S108  the container's own


def new_name(cluster: str) -> str:
    """Return a name for a cluster's probe that no other service has."""
    return f"{_prefix(cluster)}{secrets.token_hex(4)}"


def _prefix(cluster: str) -> str:
    return f"{cluster}_health-"


class ProbeService:
    """The probe's service, from its creation to its result in `log`."""

    def __init__(self, manager: Manager, name: str, timing: Timing = TIMING) -> None:
        self.name = name
        self.created = False
        self.log = LogReader()
        self._manager = manager
        self._timing = timing
        self._result_by = Deadline.after(timing.last_line)

    def create(self, request: Request, deadline: Deadline) -> None:
        """Create the service; the probe gives up before the deadline."""
        left = deadline.remaining()
        seconds = max(left - self._timing.margin, 1)
        self.start(spec(request, self.name, seconds, time.time() + left))

    def start(self, arguments: Mapping[str, Any]) -> None:
        """Create the service from the arguments of `APIClient.create_service`."""
        self.created = True  # even if the request fails: it may have reached the Swarm
        self.log.follow(self._manager.create(arguments))

    def check(self, now: Snapshot) -> None:
        """Raise `UnfitError` if the probe has ended without a result."""
        tasks = now.tasks_of(self.name)
        running = [task for task in tasks if task["Status"]["State"] not in ENDED]
        if self.log.outcome or running or not tasks:
            self._result_by = Deadline.after(self._timing.last_line)
        elif self._result_by.passed:
            errors = dict.fromkeys(error_of(task) or task["Status"]["State"] for task in tasks)
            raise UnfitError(f"the probe ended without a result: {', '.join(errors)}")

    def remove(self) -> bool:
        """Remove the service; return False if a request to create it may still be under way."""
        if self.created and self._manager.remove(self.name):
            self.created = False
        return not self.created


@dataclass(frozen=True, kw_only=True)
class Container:
    """What a one-shot service runs, on which nodes and networks.

    Names without a dot are looked up on the network called `network_name` first, if any. An image
    that installs `packages` at its start does so as its own user, into its root file system.
    """

    image: str
    args: Sequence[str]
    constraints: Sequence[str]
    platforms: Sequence[str]
    networks: Sequence[str] = ()  # ids
    network_name: str = ""
    packages: Sequence[str] = ()
    secrets: Sequence[types.SecretReference] = ()
    configs: Sequence[types.ConfigReference] = ()


def spec(request: Request, name: str, seconds: float, ends_at: float) -> dict[str, Any]:
    """Return the arguments of `APIClient.create_service`; `ends_at` in seconds since 1970."""
    probe = replace(request.probe, deadline_seconds=seconds)
    networks = (request.network_id, request.caddy_network_id, *request.other_network_ids)
    container = Container(
        image=request.image,
        args=bundle.command(probe.to_json()),
        constraints=request.constraints,
        platforms=request.platforms,
        networks=[network for network in networks if network],
        network_name=request.network_name,
        # The probe compares versions, so it needs the notebook's packages.
        packages=probe.packages,
        # Readable for the images' usual user and for a root without capabilities.
        secrets=[
            types.SecretReference(
                secret.id, secret.name, filename=secret.file, uid="1000", gid="0", mode=0o440
            )
            for secret in request.secrets
        ],
        configs=[
            types.ConfigReference(config.id, config.name, filename=config.file)
            for config in request.configs
        ],
    )
    return one_shot(container, name, ends_at)


def one_shot(container: Container, name: str, ends_at: float) -> dict[str, Any]:
    """Return the arguments of `APIClient.create_service`; `ends_at` in seconds since 1970."""
    packages = " ".join(container.packages)
    template = types.TaskTemplate(
        types.ContainerSpec(
            container.image,
            # Arguments, not a command: the image keeps its own entrypoint.
            args=[*container.args],
            # Some images install packages at their start.
            env={"EXTRA_PIP_PACKAGES": packages} if packages else None,
            stop_grace_period=10**9,
            secrets=[*container.secrets],
            configs=[*container.configs],
            mounts=[types.Mount(target, source=None) for target in _WRITABLE],
            # The image's own check would ask a notebook that does not run here.
            healthcheck=types.Healthcheck(test=["NONE"]),
            cap_drop=["ALL"],
            user=None if packages else _USER,
            read_only=not packages,
            # Docker asks the node's name servers for services that do not exist yet. These may
            # take long to answer, and meanwhile the service may appear.
            # The same name may be on another network too: the cluster's network comes first.
            dns_config=types.DNSConfig(
                search=[container.network_name],
                options=["timeout:1", "attempts:1", "ndots:1"],
            )
            if container.network_name
            else None,
        ),
        # The program exits with 0 even if it proves nothing. Only a failed start is retried, which
        # happens while the network is new.
        resources=types.Resources(cpu_limit=_CPUS, mem_limit=_MEMORY),
        restart_policy=types.RestartPolicy(condition="on-failure", delay=10**9, max_attempts=2),
        placement=types.Placement(
            constraints=list(container.constraints),
            platforms=[
                (architecture, system)
                for system, _, architecture in (p.partition("/") for p in container.platforms)
            ],
        ),
        log_driver=types.DriverConfig("json-file", {"max-size": "1m", "max-file": "1"}),
        networks=[types.NetworkAttachmentConfig(network) for network in container.networks],
    )
    return {
        "task_template": template,
        "name": name,
        "labels": {**PROBE_LABELS, DEADLINE_LABEL: str(int(ends_at))},
        # Not a job: engine 20.10 leaves a job's container behind, even running, when its service
        # is removed.
        "mode": types.ServiceMode("replicated", replicas=1),
    }


def leftovers(now: Snapshot, cluster: str, clock: float) -> list[str]:
    """Return the names of a cluster's probe services whose launcher is gone.

    `clock` is the time in seconds since 1970.
    """
    return [
        name
        for name, service in now.services.items()
        if name.startswith(_prefix(cluster))
        and (_expired(service, clock) or _abandoned(now.tasks_of(name), clock))
    ]


def _expired(service: Mapping[str, Any], clock: float) -> bool:
    ends_at = float(service["Spec"]["Labels"].get(DEADLINE_LABEL, "inf"))
    return ends_at + TIMING.linger < clock


def _abandoned(tasks: Iterable[Mapping[str, Any]], clock: float) -> bool:
    ended = [
        epoch_seconds(task["Status"]["Timestamp"]) if task["Status"]["State"] in ENDED else clock
        for task in tasks
    ]
    return bool(ended) and max(ended) + TIMING.linger < clock
