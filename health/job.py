"""The one-shot service that carries the proof into the cluster's network."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from docker import types

from health import bundle
from health.request import Notebook, Prefect, Request
from swarm.manager import PROBE_LABELS
from swarm.snapshot import ENDED, Snapshot, epoch_seconds

PREFIX = "dask_health-"
DEADLINE_LABEL = "dask.swarm/deadline"  # seconds since 1970, after which nobody waits for it

LINGER_SECONDS = 30  # a launcher reads its finished service's last lines within it

_SECRET_NAME = "dask-health-notebook"  # noqa: S105  the name of a file
_VARIABLES_NAME = "dask-health-environment"
_CPUS = 10**9
_MEMORY = 512 * 2**20


def order(request: Request, seconds: float) -> str:
    """Return what the program inside is told, as JSON, with `seconds` until it must be done."""
    expected = asdict(request.expected)
    del expected["workers_per_node"]  # only the Swarm knows nodes
    notebook = None
    if request.notebook:
        notebook = {
            "url": request.notebook.url,
            "kind": request.notebook.kind,
            "secret_file": f"/run/secrets/{_SECRET_NAME}",
            "cell": request.notebook.cell,
        }
    told = {
        "deadline_seconds": seconds,
        "scheduler_address": request.scheduler_address,
        "expected": expected,
        "notebook": notebook,
        "prefect": _prefect(request),
        "packages": request.packages,
        "use": request.use,
        "object_store": asdict(request.object_store) if request.object_store else None,
    }
    return json.dumps(told)


def spec(request: Request, name: str, seconds: float, ends_at: float) -> dict[str, Any]:
    """Return the arguments of `APIClient.create_service`; `ends_at` in seconds since 1970."""
    template = types.TaskTemplate(
        types.ContainerSpec(
            request.image,
            # Arguments, not a command: the image's own entrypoint stays in charge.
            args=bundle.command(order(request, seconds)),
            # What images install at start, the notebook has, whose versions these stand for.
            env={"EXTRA_PIP_PACKAGES": " ".join(request.packages)} if request.packages else None,
            stop_grace_period=10**9,
            secrets=_secrets(request),
            # The image's own check would ask a notebook that does not run here.
            healthcheck=types.Healthcheck(test=["NONE"]),
            cap_drop=["ALL"],
            # Names of services that are not there yet are asked of the nodes' own name servers,
            # which may take long to answer; meanwhile the service is there.
            dns_config=types.DNSConfig(options=["timeout:1", "attempts:1"]),
        ),
        # The program ends well whatever it found out. What is tried again is a start that failed,
        # as it can when the network has just been made.
        resources=types.Resources(cpu_limit=_CPUS, mem_limit=_MEMORY),
        restart_policy=types.RestartPolicy(condition="on-failure", delay=10**9, max_attempts=2),
        placement=types.Placement(constraints=list(request.constraints)),
        log_driver=types.DriverConfig("json-file", {"max-size": "1m", "max-file": "1"}),
        networks=[types.NetworkAttachmentConfig(request.network_id)],
    )
    return {
        "task_template": template,
        "name": name,
        "labels": {**PROBE_LABELS, DEADLINE_LABEL: str(int(ends_at))},
        # Not a job: manager 20.10 leaves a job's container behind, even running, when its service
        # is removed.
        "mode": types.ServiceMode("replicated", replicas=1),
    }


def _prefect(request: Request) -> dict[str, Any] | None:
    if request.prefect is None:
        return None
    return {
        "api_url": request.prefect.api_url,
        "managed": request.prefect.managed,
        "variables_file": f"/run/secrets/{_VARIABLES_NAME}",
    }


def _secrets(request: Request) -> list[types.SecretReference]:
    needed: list[tuple[Notebook | Prefect | None, str]] = [
        (request.notebook, _SECRET_NAME),
        (request.prefect, _VARIABLES_NAME),
    ]
    # Readable for all, because images differ in their user; nothing else runs in this container.
    return [
        types.SecretReference(source.secret_id, source.secret_name, filename=name, mode=0o444)
        for source, name in needed
        if source is not None
    ]


def leftovers(now: Snapshot, clock: float) -> list[str]:
    """Return the names of the one-shot services that no launcher waits for any more.

    `clock` is the time in seconds since 1970.
    """
    return [
        name
        for name, service in now.services.items()
        if name.startswith(PREFIX)
        and (_expired(service, clock) or _abandoned(now.tasks_of(name), clock))
    ]


def _expired(service: Mapping[str, Any], clock: float) -> bool:
    ends_at = float(service["Spec"]["Labels"].get(DEADLINE_LABEL, "inf"))
    return ends_at + LINGER_SECONDS < clock


def _abandoned(tasks: Iterable[Mapping[str, Any]], clock: float) -> bool:
    ended = [
        epoch_seconds(task["Status"]["Timestamp"]) if task["Status"]["State"] in ENDED else clock
        for task in tasks
    ]
    return bool(ended) and max(ended) + LINGER_SECONDS < clock
