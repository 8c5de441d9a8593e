"""The state of services compared with their declaration; pure, over the API's plain dicts.

A service has two hashes. The declared hash, in its label, is of what the program declares: it
shows whether Swarm has the declaration. The spec hash is of the spec as Swarm has it: drift
changes it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from swarm import UnfitError
from swarm.nodes import Task

DECLARED_HASH_LABEL = "dask.swarm/revision"

ENDED = ("complete", "failed", "rejected", "shutdown", "orphaned", "remove")

ABSENT = "does not exist yet"
STALE = "is not updated yet"
STARTING = "is starting"
CROWDED = "runs more tasks than declared"

Service = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Services by name and all their tasks, as they were at one moment."""

    services: Mapping[str, Service]
    tasks: tuple[Task, ...]

    def tasks_of(self, name: str) -> list[Task]:
        """Return the tasks of a service, old ones included; none if there is no such service."""
        service = self.services.get(name)
        return [t for t in self.tasks if service and t["ServiceID"] == service["ID"]]

    def current(self, name: str) -> list[Task]:
        """Return the tasks that were created from the present spec of a service."""
        return [t for t in self.tasks_of(name) if not outdated(t, self.services[name])]

    def since(self, start: "Snapshot") -> "Snapshot":
        """Return this snapshot without the tasks that had already ended at `start`."""
        ended = {task["ID"] for task in start.tasks if task["Status"]["State"] in ENDED}
        return Snapshot(
            services=self.services,
            tasks=tuple(task for task in self.tasks if task["ID"] not in ended),
        )


def unsettled(
    now: Snapshot, start: Snapshot, declared: Mapping[str, str], healthy: Iterable[str] = ()
) -> dict[str, str]:
    """Return service name to its state, for the services that are not as declared yet.

    `declared` is service name to declared hash. The services in `healthy` must also pass their own
    health checks. `start` is the Swarm when the proof began: a rollback from before does not
    count. Raises `UnfitError` for an update that was paused or rolled back since.
    """
    states = {name: _state(now, start, name, declared[name]) for name in declared}
    for name in healthy:
        states[name] = states[name] or _starting(now, name)
    return {name: state for name, state in states.items() if state}


def _starting(now: Snapshot, name: str) -> str:
    # Swarm reports a task with a health check as running only after the check has passed.
    wanted = [task for task in now.tasks_of(name) if task["DesiredState"] == "running"]
    states = [task["Status"]["State"] for task in wanted]
    enough = len(states) >= replicas(now.services[name])
    return "" if enough and set(states) == {"running"} else STARTING


def undeclared(states: Mapping[str, str]) -> list[str]:
    """Return the services whose declaration has not reached the Swarm yet."""
    return [name for name, state in states.items() if state in (ABSENT, STALE)]


def _state(now: Snapshot, start: Snapshot, name: str, declared: str) -> str:
    service = now.services.get(name)
    if service is None:
        return ABSENT
    update = update_of(service)
    state = update.get("State", "completed")
    if declared_hash(service) != declared:
        if rolled_back_since(start, service, declared):
            reason = _reason(update) + _failed_task(now, start, name)
            raise UnfitError(f"Swarm rolled back the update of {name}: {reason}")
        return STALE
    if is_paused(service):
        raise UnfitError(f"Swarm paused the update of {name}: {_reason(update)}")
    if state in ("updating", "rollback_started"):
        return "is being updated"
    running = [task for task in now.tasks_of(name) if task["DesiredState"] == "running"]
    if any(outdated(task, service) for task in running):
        return "still runs old tasks"
    is_replicated = "Replicated" in service["Spec"]["Mode"]
    return CROWDED if is_replicated and len(running) > replicas(service) else ""


def update_of(service: Service | None) -> Mapping[str, Any]:
    """Return the status of a service's last update, empty without an update."""
    return (service or {}).get("UpdateStatus") or {}


def rolled_back_since(start: Snapshot, service: Service, declared: str) -> bool:
    """Return whether the rollback of a service's update to `declared` began after `start`.

    An update to another declared hash, or its rollback, belongs to an earlier deployment if it was
    already under way at `start`.
    """
    before = start.services.get(service["Spec"]["Name"])
    now, then = update_of(service), update_of(before)
    earlier = is_rollback(then) or bool(before and declared_hash(before) != declared)
    return is_rollback(now) and not (earlier and now.get("StartedAt") == then.get("StartedAt"))


def is_paused(service: Service) -> bool:
    """Return whether Swarm has paused a service's update or rollback for good."""
    return update_of(service).get("State") in ("paused", "rollback_paused")


def is_rollback(update: Mapping[str, Any]) -> bool:
    """Return whether an update is a rollback, running or finished."""
    return str(update.get("State", "")).startswith("rollback")


def _reason(update: Mapping[str, Any]) -> str:
    return str(update.get("Message") or "no reason given")


def _failed_task(now: Snapshot, start: Snapshot, name: str) -> str:
    """Return the id of the failed task; Swarm's message drops it once the rollback completes."""
    failed = [
        task
        for task in now.since(start).tasks_of(name)
        if task["Status"]["State"] in ("failed", "rejected") and outdated(task, now.services[name])
    ]
    newest = max(failed, key=lambda task: str(task["CreatedAt"]), default=None)
    known = newest is None or newest["ID"] in _reason(update_of(now.services[name]))
    return "" if known or newest is None else f", after the failure of task {newest['ID']}"


def declared_hash(service: Service) -> str | None:
    """Return the declared hash in the service's label, None without the label."""
    label: str | None = (service["Spec"].get("Labels") or {}).get(DECLARED_HASH_LABEL)
    return label


def spec_hash(service: Service) -> str:
    """Return the hash of the spec as Swarm has it, 16 hexadecimal digits."""
    spec = json.dumps(service["Spec"], sort_keys=True)
    return hashlib.sha256(spec.encode()).hexdigest()[:16]


def outdated(task: Task, service: Service) -> bool:
    """Return whether a task was created from another spec than its service has now.

    Placement does not count: Swarm keeps a task whose node meets the new placement
    (https://github.com/moby/swarmkit, manager/orchestrator/task.go, IsTaskDirty). The runtime
    does not count: the API leaves it out of a task's spec.
    """
    return _comparable(task["Spec"]) != _comparable(service["Spec"]["TaskTemplate"])


def _comparable(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {**spec, "Placement": None, "Runtime": None}


def epoch_seconds(timestamp: str) -> float:
    """Return a timestamp of the API in seconds since 1970."""
    return datetime.fromisoformat(timestamp).timestamp()


def works(task: Task) -> bool:
    """Return whether a task runs, and is to run on."""
    return (task["Status"]["State"], task["DesiredState"]) == ("running", "running")


def replicas(service: Service) -> int:
    """Return how many tasks a service must have; a global service must have at least 1."""
    mode = service["Spec"]["Mode"]
    return int((mode.get("Replicated") or {}).get("Replicas", 1))


def is_worker(service: Service) -> bool:
    """Return whether a service runs Dask workers, by its command."""
    container = service["Spec"]["TaskTemplate"]["ContainerSpec"]
    return "worker" in [*(container.get("Command") or []), *(container.get("Args") or [])]


def task_by_address(tasks: Iterable[Task], network_id: str) -> dict[str, Task]:
    """Return IP address on the network to task, for the tasks that should be running."""
    result: dict[str, Task] = {}
    for task in tasks:
        for attachment in task.get("NetworksAttachments") or []:
            if attachment["Network"]["ID"] == network_id and task["DesiredState"] == "running":
                result |= {cidr.partition("/")[0]: task for cidr in attachment["Addresses"]}
    return result
