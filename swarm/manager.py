"""The part of the Swarm manager's API that this project needs; it returns plain dicts."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import docker.types
from docker.errors import (
    APIError,
    DockerException,
    NotFound,
    create_api_error_from_http_exception,
)
from requests.exceptions import HTTPError, RequestException
from urllib3.exceptions import HTTPError as StreamError

from swarm.client import connect
from swarm.snapshot import Snapshot, epoch_seconds

ANSWER_SECONDS = 20
PROBE_LABELS = {"dask.swarm/role": "health"}  # of the one-shot services that prove a cluster
ATTEMPTS = 3  # services may change between two requests

# An answer that is read bit by bit, like a log, breaks off with an error of urllib3 itself.
MANAGER_ERRORS = (DockerException, RequestException, StreamError, OSError)


def cluster_of(service_name: str) -> str:
    """Return the name of the cluster that a service belongs to: `dask` for `dask_worker`."""
    return service_name.partition("_")[0]


def manager_address() -> str:
    """Return the address of the manager's engine."""
    return os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


class Manager:
    """A connection to the manager, by default at `DOCKER_HOST`; not for use by several threads."""

    def __init__(self, address: str | None = None) -> None:
        self._address = address or manager_address()
        # The stubs leave most of the methods used here untyped.
        self._api: Any = connect(self._address, seconds=ANSWER_SECONDS)

    @property
    def poll_seconds(self) -> float:
        """Seconds between two snapshots; a local socket allows short ones."""
        return 0.2 if self._address.startswith("unix:") else 1.0

    def snapshot(self, names: Iterable[str]) -> Snapshot:
        """Return the named services that exist, and all their tasks."""
        wanted = set(names)
        services = self._api.services(filters={"name": sorted(wanted)})
        # The filter matches prefixes too.
        return self._with_tasks([s for s in services if s["Spec"]["Name"] in wanted])

    def labelled(self, labels: Mapping[str, str]) -> Snapshot:
        """Return the services with these labels, and all their tasks."""
        filters = {"label": [f"{key}={value}" for key, value in labels.items()]}
        return self._with_tasks(self._api.services(filters=filters))

    def _with_tasks(self, services: list[dict[str, Any]]) -> Snapshot:
        for _ in range(ATTEMPTS):
            named = {service["Spec"]["Name"]: service for service in services}
            try:
                return Snapshot(services=named, tasks=tuple(self._tasks(services)))
            except NotFound as gone:
                services = [service for service in services if service["ID"] not in str(gone)]
        return Snapshot(services={}, tasks=())

    def _tasks(self, services: list[dict[str, Any]]) -> list[dict[str, Any]]:
        ids = [service["ID"] for service in services]
        tasks: list[dict[str, Any]] = self._api.tasks(filters={"service": ids}) if ids else []
        return tasks

    def nodes(self) -> list[dict[str, Any]]:
        """Return all nodes of the Swarm."""
        nodes: list[dict[str, Any]] = self._api.nodes()
        return nodes

    def tasks(self) -> list[dict[str, Any]]:
        """Return all tasks of the Swarm."""
        tasks: list[dict[str, Any]] = self._api.tasks()
        return tasks

    def configs(self, prefix: str) -> list[dict[str, Any]]:
        """Return the configs whose names start with `prefix`."""
        configs: list[dict[str, Any]] = self._api.configs(filters={"name": prefix})
        return configs

    def create(self, spec: Mapping[str, Any]) -> str:
        """Create a service from `create_service`'s arguments and return its id."""
        return str(self._api.create_service(**spec)["ID"])

    def roll_back(self, service: Mapping[str, Any]) -> None:
        """Give a service its previous spec; raises when the service has changed meanwhile."""
        self._update(service, rollback="previous")

    def resend(self, service: Mapping[str, Any]) -> None:
        """Send a service its own spec: Swarm resumes a paused update, and counts the tasks."""
        self._update(service)

    def _update(self, service: Mapping[str, Any], **options: str) -> None:
        api = self._api  # its `update_service` cannot roll back, and fills in defaults
        answer = api.post(
            f"{api.base_url}/v{api.api_version}/services/{service['ID']}/update",
            params={"version": service["Version"]["Index"], **options},
            json=service["Spec"],
            timeout=ANSWER_SECONDS,
        )
        try:
            answer.raise_for_status()
        except HTTPError as error:
            create_api_error_from_http_exception(error)

    def node_id(self) -> str:
        """Return the id of the manager's own node."""
        return str(self._api.info()["Swarm"]["NodeID"])

    def attach(self, container: str, command: Sequence[str]) -> Any:  # noqa: ANN401  no common type
        """Run a command in a container of the manager's own node; return its attached socket."""
        created = self._api.exec_create(container, [*command], stdin=True)
        return self._api.exec_start(created, socket=True)

    def clock(self) -> float:
        """Return the manager's time, in seconds since 1970."""
        return epoch_seconds(self._api.info()["SystemTime"])

    def objects(self, kind: str) -> list[dict[str, Any]]:
        """Return all objects of a kind: `service`, `network`, `config` or `secret`."""
        objects: list[dict[str, Any]] = getattr(self._api, f"{kind}s")()
        return objects

    def remove(self, name: str, kind: str = "service") -> bool:
        """Remove an object, by default a service; return whether it existed."""
        try:
            getattr(self._api, f"remove_{kind}")(name)
        except NotFound:
            return False
        return True

    def scale(self, name: str, replicas: int) -> bool:
        """Change a service's number of tasks; return whether the service exists."""
        mode = docker.types.ServiceMode("replicated", replicas)
        for left in reversed(range(ATTEMPTS)):
            try:
                service = self._api.inspect_service(name)
                version = service["Version"]["Index"]
                self._api.update_service(
                    service["ID"], version, mode=mode, fetch_current_spec=True
                )
            except NotFound:
                return False
            except APIError as error:
                # The end of an update creates another version of the service.
                if not left or "out of sequence" not in str(error):
                    raise
            else:
                return True
        return False

    def follow(self, service_id: str) -> Iterator[str]:
        """Yield the lines that a service's tasks print, as they arrive."""
        yield from _lines(self._logs(service_id, follow=True))

    def printed(self, service_id: str) -> Iterator[str]:
        """Yield the lines that a service's tasks have printed so far."""
        yield from _lines(self._logs(service_id))

    def last_lines(self, service_id: str, count: int) -> Iterator[tuple[str, str]]:
        """Yield (task id, line) for the last `count` lines of each task."""
        for line in _lines(self._logs(service_id, tail=count, details=True)):
            details, _, text = line.partition(" ")
            keys = dict(pair.partition("=")[::2] for pair in details.split(","))
            yield keys.get("com.docker.swarm.task.id", ""), text

    def _logs(self, service_id: str, **options: object) -> Iterator[bytes]:
        logs: Iterator[bytes] = self._api.service_logs(
            service_id, stdout=True, stderr=True, is_tty=False, **options
        )
        return logs


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
    if rest:
        yield rest.decode(errors="replace")
