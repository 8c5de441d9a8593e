"""Rollback: after a failed proof, every service that the deployment updated gets its old spec.

Swarm itself rolls back only a service whose new tasks fail soon after their start. This module
rolls back for every other reason, and all services that were updated together.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import cached_property

from health.timing import TIMING, Deadline, Timing
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
    works,
)


class Stage(Enum):
    """How far the update of a service has come, or its rollback."""

    EXPECTED = auto()  # the update may still be on its way to the Swarm
    REVERSIBLE = auto()  # updated, and the previous spec is another one
    FINAL = auto()  # updated, and the previous spec is no better
    ROLLING_BACK = auto()  # has its old spec; its tasks may still be starting
    PAUSED = auto()  # has its old spec, and Swarm has paused the rollback


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a rollback has come to: service to what it waits for, and why it stops."""

    missing: Mapping[str, str]
    errors: tuple[str, ...] = ()
    busy: bool = True

    @property
    def waiting(self) -> str:
        """What the rollback waits for."""
        return ", ".join(filter(None, self.missing.values()))

    def __str__(self) -> str:
        """Return the end of the report, empty if there was nothing to roll back."""
        done = [name for name, missing in self.missing.items() if not missing]
        lines = [f"rolled back: {', '.join(done)} as before this update"] if done else []
        if self.waiting:
            lines.append(f"being rolled back: {self.waiting}; Swarm goes on with it")
        if self.errors:
            lines.append(f"not rolled back: {'; '.join(self.errors)}")
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Rollback:
    """The updates of one deployment, and how to undo them.

    `start` is the Swarm when the proof began, `declared` is service name to declared hash,
    `proven` is service name to spec hash at the last proof. The updates of this deployment are
    later than `since`, in seconds since 1970 by the manager's clock.
    """

    start: Snapshot
    declared: Mapping[str, str]
    proven: Mapping[str, str]
    since: float

    @cached_property
    def updated(self) -> list[str]:
        """The existing services that this deployment updates."""
        return [_name(service) for service in self._existing if self._is_updated(service)]

    @property
    def paused(self) -> list[Service]:
        """The services as declared whose update or rollback was paused before the proof.

        Pulumi sends Swarm nothing for a service that is as declared, so they stay paused.
        """
        return [s for s in self._existing if is_paused(s) and self._is_declared(s)]

    def reserved_seconds(self, limit: float, timing: Timing = TIMING) -> float:
        """Return how many of a deadline's seconds are kept for the rollback."""
        return min(limit * timing.rollback_share, timing.rollback_limit) if self.updated else 0.0

    def stage(self, service: Service) -> Stage:
        """Return how far the update of a service has come."""
        if self._is_declared(service):
            return Stage.REVERSIBLE if self._is_reversible(service) else Stage.FINAL
        if not rolled_back_since(self.start, service, self.declared[_name(service)]):
            return Stage.EXPECTED
        return Stage.PAUSED if is_paused(service) else Stage.ROLLING_BACK

    def step(self, manager: Manager, appear_by: Deadline) -> Outcome:
        """Roll back what can be rolled back now, and return the outcome so far."""
        now = manager.snapshot(self.updated)
        stages: dict[Stage, list[Service]] = {stage: [] for stage in Stage}
        for name in self.updated:
            if name in now.services:
                stages[self.stage(now.services[name])].append(now.services[name])
        for service in stages[Stage.REVERSIBLE]:
            manager.roll_back(service)
        missing = {_name(s): _missing(now, s) for s in stages[Stage.ROLLING_BACK]}
        expected = stages[Stage.EXPECTED] and not appear_by.passed
        return Outcome(
            missing=missing,
            errors=tuple(map(_paused, stages[Stage.PAUSED])),
            busy=bool(stages[Stage.REVERSIBLE] or any(missing.values()) or expected),
        )

    @property
    def _existing(self) -> list[Service]:
        services = self.start.services
        return [services[name] for name in self.declared if name in services]

    def _is_declared(self, service: Service) -> bool:
        return declared_hash(service) == self.declared[_name(service)]

    def _is_updated(self, service: Service) -> bool:
        """Return whether this deployment updates a service that existed before it.

        The update may have reached the Swarm already: a moment ago, or in an earlier deployment
        that was interrupted before its proof.
        """
        if not self._is_declared(service):
            return True
        if self._is_proven(service):
            return False
        previous = {"Spec": service.get("PreviousSpec") or service["Spec"]}
        return self._is_proven(previous) or self._is_recent(service)

    def _is_proven(self, service: Service) -> bool:
        return spec_hash(service) == self.proven.get(_name(service))

    def _is_recent(self, service: Service) -> bool:
        # A service that Swarm rolled back to what is declared must not get the failed spec again.
        # Swarm writes the progress of an update into the service, so `UpdatedAt` may be later than
        # the update.
        update = update_of(service)
        started = str(update.get("StartedAt") or service["UpdatedAt"])
        return not is_rollback(update) and epoch_seconds(started) > self.since

    def _is_reversible(self, service: Service) -> bool:
        previous = service.get("PreviousSpec")
        differs = previous and declared_hash({"Spec": previous}) != declared_hash(service)
        return bool(differs) and not self._is_proven(service)


def _name(service: Service) -> str:
    return str(service["Spec"]["Name"])


def _missing(now: Snapshot, service: Service) -> str:
    count, wanted = sum(map(works, now.current(_name(service)))), replicas(service)
    return "" if count >= wanted else f"{count} of {wanted} tasks of {_name(service)} run again"


def _paused(service: Service) -> str:
    message = update_of(service).get("Message")
    return (
        f"Swarm paused the rollback of {_name(service)}: {message}; "
        "fix what it names, the next deployment resumes the rollback"
    )


def roll_back(
    rollback: Rollback,
    manager: Manager,
    progress: Progress,
    deadline: Deadline,
    appear_by: Deadline,
) -> Outcome:
    """Roll back all updated services, and return the outcome.

    Returns when their old tasks run again, or at the deadline. It waits until `appear_by` for
    updates that have not reached the Swarm: Pulumi goes on with other services while this proof
    fails.
    """
    outcome = Outcome(missing={})
    while True:
        try:
            outcome = rollback.step(manager, appear_by)
        except MANAGER_ERRORS as error:
            outcome = replace(outcome, errors=(str(error),), busy=True)
        if not outcome.busy or deadline.passed:
            return outcome
        progress.update(outcome.waiting or "rolling back the services")
        time.sleep(manager.poll_seconds)
