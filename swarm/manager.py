"""The Swarm manager's API as far as the launcher needs it; it returns plain dicts."""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import docker.types
from docker.errors import (
    APIError,
    DockerException,
    NotFound,
    create_api_error_from_http_exception,
)
from requests.exceptions import HTTPError, RequestException

from swarm.client import connect
from swarm.snapshot import Snapshot, moment

ANSWER_SECONDS = 20
PROBE_LABELS = {"dask.swarm/role": "health"}  # of the one-shot services that prove a cluster
LOOKS = 3  # at services that come and go while their tasks are asked for

# Whatever goes wrong between here and the manager is one of these.
ENGINE_ERRORS = (DockerException, RequestException, OSError)


def manager_address() -> str:
    """Return where the manager's engine is looked for."""
    return os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


class Engine:
    """A connection to the manager at `DOCKER_HOST`; not for use by several threads."""

    def __init__(self) -> None:
        # The stubs leave most of the methods used here untyped.
        self._api: Any = connect(manager_address(), seconds=ANSWER_SECONDS)

    @property
    def poll_seconds(self) -> float:
        """How long to wait between two looks: a socket on this machine costs next to nothing."""
        return 0.2 if manager_address().startswith("unix:") else 1.0

    def snapshot(self, names: Iterable[str]) -> Snapshot:
        """Return those of the named services that exist, and all their tasks."""
        wanted = set(names)
        found = self._api.services(filters={"name": sorted(wanted)})
        # The filter takes prefixes too.
        return self._with_tasks([each for each in found if each["Spec"]["Name"] in wanted])

    def labelled(self, labels: Mapping[str, str]) -> Snapshot:
        """Return the services with these labels, and all their tasks."""
        filters = {"label": [f"{key}={value}" for key, value in labels.items()]}
        return self._with_tasks(self._api.services(filters=filters))

    def _with_tasks(self, services: list[dict[str, Any]]) -> Snapshot:
        for _ in range(LOOKS):
            named = {each["Spec"]["Name"]: each for each in services}
            try:
                return Snapshot(services=named, tasks=tuple(self._tasks(services)))
            except NotFound as gone:
                services = [each for each in services if each["ID"] not in str(gone)]
        return Snapshot(services={}, tasks=())

    def _tasks(self, services: list[dict[str, Any]]) -> list[dict[str, Any]]:
        ids = [each["ID"] for each in services]
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

    def configs(self, beginning: str) -> list[dict[str, Any]]:
        """Return the configs whose names begin so."""
        configs: list[dict[str, Any]] = self._api.configs(filters={"name": beginning})
        return configs

    def create(self, spec: Mapping[str, Any]) -> str:
        """Create a service from `create_service`'s arguments and return its id."""
        return str(self._api.create_service(**spec)["ID"])

    def revert(self, service: Mapping[str, Any]) -> None:
        """Give a service the spec that it had before; raises when it has changed meanwhile."""
        self._update(service, rollback="previous")

    def resume(self, service: Mapping[str, Any]) -> None:
        """Give a service the spec that it has, which has the Swarm carry it out once more."""
        self._update(service)

    def _update(self, service: Mapping[str, Any], **options: str) -> None:
        api = self._api  # whose own method for updates knows no way back, and fills in defaults
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

    def clock(self) -> float:
        """Return the time at the manager, in seconds since 1970."""
        return moment(self._api.info()["SystemTime"])

    def remove(self, name: str) -> bool:
        """Remove a service; return whether there was one."""
        try:
            self._api.remove_service(name)
        except NotFound:
            return False
        return True

    def scale(self, name: str, replicas: int) -> bool:
        """Give a service another number of tasks; return whether there is such a service."""
        mode = docker.types.ServiceMode("replicated", replicas)
        for left in reversed(range(LOOKS)):
            try:
                found = self._api.inspect_service(name)
                version = found["Version"]["Index"]
                self._api.update_service(found["ID"], version, mode=mode, fetch_current_spec=True)
            except NotFound:
                return False
            except APIError as error:
                # Its update may just be completed, which makes another version of it.
                if not left or "out of sequence" not in str(error):
                    raise
            else:
                return True
        return False

    def follow(self, service_id: str) -> Iterator[str]:
        """Yield the lines that a service's tasks print, as they come."""
        yield from _lines(self._logs(service_id, follow=True))

    def printed(self, service_id: str) -> Iterator[str]:
        """Yield the lines that a service's tasks have printed so far."""
        yield from _lines(self._logs(service_id))

    def last_lines(self, service_id: str, count: int) -> Iterator[tuple[str, str]]:
        """Yield task id and line, of each task's last `count` lines."""
        for line in _lines(self._logs(service_id, tail=count, details=True)):
            details, _, text = line.partition(" ")
            keys = dict(each.partition("=")[::2] for each in details.split(","))
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
