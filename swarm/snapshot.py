"""Whether the Swarm runs what was declared, over services and tasks as the API describes them."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from swarm import UnfitError

REVISION_LABEL = "dask.swarm/revision"

ENDED = ("complete", "failed", "rejected", "shutdown", "orphaned", "remove")

ABSENT = "does not exist yet"
STALE = "is not yet at its declared revision"
STARTING = "is starting"

Service = Mapping[str, Any]
Task = Mapping[str, Any]


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
        """Return a service's tasks that were made from its present spec."""
        return [t for t in self.tasks_of(name) if not outdated(t, self.services[name])]

    def since(self, start: "Snapshot") -> "Snapshot":
        """Return the same without the tasks that had ended at an earlier moment."""
        ended = {task["ID"] for task in start.tasks if task["Status"]["State"] in ENDED}
        return Snapshot(
            services=self.services,
            tasks=tuple(task for task in self.tasks if task["ID"] not in ended),
        )


def unsettled(
    now: Snapshot, start: Snapshot, revisions: Mapping[str, str], healthy: Iterable[str] = ()
) -> dict[str, str]:
    """Return what each service that is not yet as declared is waiting for, by name.

    `start` is what the Swarm was when this deployment's probe began: an update that was rolled
    back before says nothing about this one. Raises `UnfitError` for one that is now. Those in
    `healthy` have to run as well, by their own health checks; the probe proves the others.
    """
    waiting = {name: _awaited(now, start, name, revisions[name]) for name in revisions}
    for name in healthy:
        waiting[name] = waiting[name] or _starting(now, name)
    return {name: awaited for name, awaited in waiting.items() if awaited}


def _starting(now: Snapshot, name: str) -> str:
    # A task with a health check is running only when that has passed.
    wanted = [task for task in now.tasks_of(name) if task["DesiredState"] == "running"]
    states = [task["Status"]["State"] for task in wanted]
    enough = len(states) >= replicas(now.services[name])
    return "" if enough and set(states) == {"running"} else STARTING


def absent(waiting: Mapping[str, str]) -> list[str]:
    """Return which of the waiting services nobody has declared to the Swarm yet."""
    return [name for name, awaited in waiting.items() if awaited in (ABSENT, STALE)]


def _awaited(now: Snapshot, start: Snapshot, name: str, revision: str) -> str:
    service = now.services.get(name)
    if service is None:
        return ABSENT
    update = update_of(service)
    state = update.get("State", "completed")
    if revision_of(service) != revision:
        if rolled_back_since(start, service, revision):
            reason = _reason(update) + _culprit(now, start, name)
            raise UnfitError(f"the Swarm rolled back the update of {name}: {reason}")
        return STALE
    if is_paused(service):
        raise UnfitError(f"the Swarm paused the update of {name}: {_reason(update)}")
    if state in ("updating", "rollback_started"):
        return "is being updated"
    running = [task for task in now.tasks_of(name) if task["DesiredState"] == "running"]
    return "still runs old tasks" if any(outdated(t, service) for t in running) else ""


def update_of(service: Service | None) -> Mapping[str, Any]:
    """Return what the Swarm says of a service's last update, nothing if there was none."""
    return (service or {}).get("UpdateStatus") or {}


def rolled_back_since(start: Snapshot, service: Service, revision: str) -> bool:
    """Tell whether a service's update to `revision` was taken back, or begun to be, after `start`.

    What was on its way to another revision at `start`, or back from one, is an earlier
    deployment's: it says nothing about this one, which comes on top of it.
    """
    before = start.services.get(service["Spec"]["Name"])
    now, then = update_of(service), update_of(before)
    earlier = is_rollback(then) or bool(before and revision_of(before) != revision)
    return is_rollback(now) and not (earlier and now.get("StartedAt") == then.get("StartedAt"))


def is_paused(service: Service) -> bool:
    """Tell whether a service's update, or its way back, has stopped for good."""
    return update_of(service).get("State") in ("paused", "rollback_paused")


def is_rollback(update: Mapping[str, Any]) -> bool:
    """Tell whether an update is the way back from another one, at whatever point."""
    return str(update.get("State", "")).startswith("rollback")


def _reason(update: Mapping[str, Any]) -> str:
    return str(update.get("Message") or "no reason given")


def _culprit(now: Snapshot, start: Snapshot, name: str) -> str:
    """Return what the Swarm itself says no more once the rollback is completed: which task."""
    failed = [
        task
        for task in now.since(start).tasks_of(name)
        if task["Status"]["State"] in ("failed", "rejected") and outdated(task, now.services[name])
    ]
    newest = max(failed, key=lambda task: str(task["CreatedAt"]), default=None)
    known = newest is None or newest["ID"] in _reason(update_of(now.services[name]))
    return "" if known or newest is None else f", after the failure of task {newest['ID']}"


def revision_of(service: Service) -> str | None:
    """Return the revision that a service was declared with, None if with none."""
    revision: str | None = (service["Spec"].get("Labels") or {}).get(REVISION_LABEL)
    return revision


def imprint(service: Service) -> str:
    """Return 16 hexadecimal digits that change with whatever the Swarm has been told of it."""
    spec = json.dumps(service["Spec"], sort_keys=True)
    return hashlib.sha256(spec.encode()).hexdigest()[:16]


def outdated(task: Task, service: Service) -> bool:
    """Tell whether a task was made from another spec than its service has now.

    Placement does not count: where nothing else differs, the Swarm keeps a task whose node meets
    the new one (https://github.com/moby/swarmkit, manager/orchestrator/task.go, IsTaskDirty). Nor
    does the runtime, which the API leaves out of a task's spec.
    """
    return _comparable(task["Spec"]) != _comparable(service["Spec"]["TaskTemplate"])


def _comparable(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {**spec, "Placement": None, "Runtime": None}


def moment(timestamp: str) -> float:
    """Return a moment of the API in seconds since 1970."""
    return datetime.fromisoformat(timestamp).timestamp()


def replicas(service: Service) -> int:
    """Return how many tasks a service is to have at least; a one-shot or global one has one."""
    mode = service["Spec"]["Mode"]
    return int((mode.get("Replicated") or {}).get("Replicas", 1))


def is_worker(service: Service) -> bool:
    """Tell whether a service runs Dask workers, by its command."""
    container = service["Spec"]["TaskTemplate"]["ContainerSpec"]
    return "worker" in [*(container.get("Command") or []), *(container.get("Args") or [])]


def addresses(tasks: Iterable[Task], network_id: str) -> dict[str, Task]:
    """Return IP address on the network to the task that should be running there."""
    found: dict[str, Task] = {}
    for task in tasks:
        for attachment in task.get("NetworksAttachments") or []:
            if attachment["Network"]["ID"] == network_id and task["DesiredState"] == "running":
                found |= {each.partition("/")[0]: task for each in attachment["Addresses"]}
    return found
