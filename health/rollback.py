"""The way back: what an update has changed becomes what it was before when it is not proven.

The Swarm does so by itself, but only for a service whose new tasks fail soon after their start.
Here it is told to for every other reason, and for what was updated together with that service.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from swarm.manager import MANAGER_ERRORS, Manager
from swarm.progress import Progress
from swarm.snapshot import (
    Service,
    Snapshot,
    declared_hash,
    epoch_seconds,
    is_paused,
    is_rollback,
    replicas,
    rolled_back_since,
    spec_hash,
    update_of,
)

LEAD_SECONDS = 3  # by which an update may come before the proof that begins beside it
APPEAR_SECONDS = 45  # for a declared service to exist at its revision
SHARE, MOST_SECONDS = 0.25, 60  # of the deadline that is kept for the way back

# Service names with the revisions to be reached.
Revisions = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Past:
    """The Swarm as the proof begins, and each service's spec_hash as it was last proven."""

    start: Snapshot
    proven: Mapping[str, str]


def changed(past: Past, revisions: Revisions, since: float) -> dict[str, str]:
    """Return which services, of those that were there before, this deployment changes.

    A service may be as declared when the proof begins: it counts when it was updated after
    `since`, in seconds since 1970 by the manager's clock, or by a deployment before that never
    came to its proof, with whose work this one goes on.
    """
    there = {name: past.start.services[name] for name in revisions if name in past.start.services}
    return {
        name: revisions[name]
        for name, service in there.items()
        if declared_hash(service) != revisions[name] or _is_new(service, past, since)
    }


def _is_new(service: Service, past: Past, since: float) -> bool:
    if _is_proven(service, past):
        return False
    before = {"Spec": service.get("PreviousSpec") or service["Spec"]}
    return _is_proven(before, past) or _declared_since(service, since)


def _is_proven(service: Service, past: Past) -> bool:
    return spec_hash(service) == past.proven.get(_name(service))


def _declared_since(service: Service, since: float) -> bool:
    """Tell whether a service that is as declared was made so after `since`.

    One that the Swarm took back to that was so before, and must not be brought to what failed. Nor
    does the moment of its last change count where there is that of its update's start: the Swarm
    writes into it how an update goes on, perhaps that of an earlier deployment.
    """
    update = update_of(service)
    begun = str(update.get("StartedAt") or service["UpdatedAt"])
    return not is_rollback(update) and epoch_seconds(begun) > since


def stopped(start: Snapshot, revisions: Revisions) -> list[Service]:
    """Return the services as declared on whose way there the Swarm stopped before `start`.

    It goes on only when it is told of a service again, and the manager tells it nothing that it
    knows already.
    """
    there = [start.services[name] for name in revisions if name in start.services]
    return [s for s in there if is_paused(s) and declared_hash(s) == revisions[_name(s)]]


def reserve(deadline: float, changes: Revisions) -> float:
    """Return how many seconds of the deadline are kept for the way back, if there may be one."""
    return min(deadline * SHARE, MOST_SECONDS) if changes else 0.0


def reversible(now: Snapshot, past: Past, changes: Revisions) -> list[Service]:
    """Return the services that are as declared and were something else before.

    Nothing better can be behind one that is as it was last proven.
    """
    there = [now.services[name] for name in changes if name in now.services]
    declared = [s for s in there if declared_hash(s) == changes[_name(s)]]
    return [s for s in declared if _was_another(s) and not _is_proven(s, past)]


def returning(now: Snapshot, start: Snapshot, changes: Revisions) -> dict[str, str]:
    """Return what each service that goes back still waits for, empty for one that is back."""
    going = [each for each in _gone(now, start, changes) if not is_paused(each)]
    return {_name(service): _missing(now, service) for service in going}


def halted(now: Snapshot, start: Snapshot, changes: Revisions) -> list[str]:
    """Return, for each service on whose way back the Swarm has stopped, why."""
    return [
        f"the Swarm paused the way back of {_name(service)}: {update_of(service).get('Message')}; "
        "the next deployment goes on with it"
        for service in _gone(now, start, changes)
        if is_paused(service)
    ]


def _gone(now: Snapshot, start: Snapshot, changes: Revisions) -> list[Service]:
    others = _not_as_declared(now, changes)
    return [s for s in others if rolled_back_since(start, s, changes[_name(s)])]


def _coming(now: Snapshot, start: Snapshot, changes: Revisions) -> bool:
    """Tell whether the update of a service may still be on its way to the Swarm."""
    return len(_gone(now, start, changes)) < len(_not_as_declared(now, changes))


def _not_as_declared(now: Snapshot, changes: Revisions) -> list[Service]:
    there = [now.services[name] for name in changes if name in now.services]
    return [s for s in there if declared_hash(s) != changes[_name(s)]]


def _missing(now: Snapshot, service: Service) -> str:
    tasks = now.current(_name(service))
    states = [(task["Status"]["State"], task["DesiredState"]) for task in tasks]
    work, wanted = states.count(("running", "running")), replicas(service)
    return "" if work >= wanted else f"{work} of {wanted} tasks of {_name(service)} run again"


def _was_another(service: Service) -> bool:
    previous = service.get("PreviousSpec")
    return bool(previous) and declared_hash({"Spec": previous}) != declared_hash(service)


def _name(service: Service) -> str:
    return str(service["Spec"]["Name"])


def account(back: Mapping[str, str], refusal: str) -> str:
    """Return what became of the way back, empty if there was none to go."""
    done = [name for name, missing in back.items() if not missing]
    missing = [each for each in back.values() if each]
    lines = [f"rolled back: {', '.join(done)} as before this update"] if done else []
    if missing:
        lines.append(f"being rolled back: {', '.join(missing)}; the Swarm goes on with it")
    if refusal:
        lines.append(f"not rolled back: {refusal}")
    return "\n".join(lines)


def go_back(
    manager: Manager, past: Past, changes: Revisions, progress: Progress, limit: float
) -> str:
    """Have the changed services be what they were before, and return what came of it.

    Returns when their tasks run again, or when `progress` has come to `limit` seconds. An update
    that has not come yet is waited for: the manager goes on with the others while this one fails,
    and what came after the end of this would stay.
    """
    start = past.start
    back: dict[str, str] = {}
    while True:
        try:
            now = manager.snapshot(changes)
            asked = reversible(now, past, changes)
            for service in asked:
                manager.roll_back(service)
            back, refusal = returning(now, start, changes), "; ".join(halted(now, start, changes))
            late = progress.elapsed < APPEAR_SECONDS and _coming(now, start, changes)
            busy = bool(asked) or any(back.values()) or late
        except MANAGER_ERRORS as error:
            busy, refusal = True, str(error)
        if not busy or progress.elapsed > limit:
            return account(back, refusal)
        progress.tell(", ".join(filter(None, back.values())) or "going back to what was before")
        time.sleep(manager.poll_seconds)
