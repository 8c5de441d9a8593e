"""Watches one proof: the rollout of the declared services, the probe's progress, and the time."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from health import placement
from health.diagnose import report, unrecoverable
from health.evidence import collect_evidence
from health.job import ProbeService
from health.request import Request
from health.rollback import Rollback, roll_back
from health.timing import Deadline, Timing
from swarm import UnfitError
from swarm.causes import error_of
from swarm.manager import MANAGER_ERRORS, Manager
from swarm.progress import Progress
from swarm.proof_record import MISSING, SPEC_HASHES, newest, proven_hashes, record_name
from swarm.snapshot import CROWDED, STALE, Snapshot, spec_hash, undeclared, unsettled


class Watch:
    """One proof, from its request to its result or report."""

    def __init__(
        self,
        manager: Manager,
        request: Request,
        probe: ProbeService,
        progress: Progress,
        deadline: Deadline,
        timing: Timing,
    ) -> None:
        self._manager = manager
        self._request = request
        self._probe = probe
        self._progress = progress
        self._observer = Observer(manager, [*request.services, probe.name], timing)
        self._rollback = Rollback(
            start=self._observer.start,
            declared=request.services,
            proven=_proven_hashes(manager, request.cluster),
            since=manager.clock() - progress.elapsed - timing.lead,
        )
        self._deadline = deadline
        self._appear_by = deadline.sub(timing.appear)
        reserved = self._rollback.reserved_seconds(deadline.limit, timing)
        self._prove_by = deadline.earlier(reserved)
        self._timing = timing
        self._waiting: dict[str, str] = {}
        self._crowded: dict[str, Deadline] = {}
        self._missing = ""

    def result(self) -> dict[str, Any]:
        """Return the stack's output; raises `UnfitError`."""
        outcome, now = self._outcome(), self._observer.now
        locations = placement.locations(now, self._manager.nodes(), self._request.network_id)
        if "failure" in outcome:
            failure = placement.name_workers(outcome["failure"], locations)
            at = self._progress.elapsed
            raise UnfitError(f"{failure}\nlast step, at {at:.1f} s: {self._status()}")
        result = placement.result(outcome["proof"], locations, self._request.workers_per_node)
        for busy in result.get("busy", ()):
            self._progress.log(f"no task of the proof: {busy}")
        if not result["transfers"] and len(result["nodes"]) == 1:
            self._progress.log("all workers are on one node: no transfer between nodes to prove")
        if self._missing and result["workers"] < self._request.probe.expected.workers:
            self._progress.log(self._missing)
            result[MISSING] = self._missing
        hashes = {name: spec_hash(now.services[name]) for name in self._request.services}
        return {**result, SPEC_HASHES: hashes}

    def report(self, headline: str) -> str:
        """Return the headline, and what is wrong with each service."""
        members, network_id = self._probe.log.members, self._request.network_id
        try:
            now = self._observer.snapshot()
            evidence = collect_evidence(self._manager, now, network_id, members, headline)
        except MANAGER_ERRORS as error:
            return f"{headline}\nThe manager does not answer requests for details: {error}"
        names = [*self._request.services, *([self._probe.name] if self._probe.created else [])]
        return report(headline, names, evidence)

    def roll_back(self) -> str:
        """Roll back the services that this deployment updates; return the end of the report."""
        return str(
            roll_back(
                self._rollback, self._manager, self._progress, self._deadline, self._appear_by
            )
        )

    def _outcome(self) -> dict[str, Any]:
        """Return the probe's last message, once the services are as declared."""
        log = self._probe.log
        for service in self._rollback.paused:
            self._manager.resend(service)
        while True:
            self._look()
            if not self._probe.created and self._can_start_probe():
                self._probe.create(self._possible(), self._prove_by)
            log.wait(self._manager.poll_seconds)
            if log.outcome and ("failure" in log.outcome or not self._waiting):
                return log.outcome

    def _possible(self) -> Request:
        """Return the request, without the workers that wait for a node to come back."""
        probe, nodes = self._request.probe, self._manager.nodes()
        missing, away = placement.missing_workers(
            self._observer.now, self._observer.start, self._request.services, nodes
        )
        workers = probe.expected.workers
        if not 0 < missing < workers:
            return self._request
        self._missing = f"{workers - missing} of {workers} workers run; {away}"
        expected = replace(probe.expected, missing=missing)
        return replace(self._request, probe=replace(probe, expected=expected))

    def _look(self) -> None:
        self._observer.look()
        now, start = self._observer.now, self._observer.start
        self._waiting = unsettled(now, start, self._request.services, self._request.healthy)
        self._progress.update(self._status())
        self._check_time()
        # The tasks of a service that is not updated yet belong to an earlier deployment.
        self._observer.check_tasks(n for n in now.services if self._waiting.get(n) != STALE)
        self._probe.check(now)
        self._end_surplus_tasks()

    def _end_surplus_tasks(self) -> None:
        """Have Swarm end surplus tasks that it has not ended by itself.

        If a task fails while its service is being updated, Swarm may replace it twice. Of two
        schedulers each gets a part of the workers and clients. Swarm should end a task at the end
        of the update, but sometimes misses that (https://github.com/moby/swarmkit,
        manager/orchestrator/update/updater.go, Supervisor.Update); then any change of the service
        makes it look again.
        """
        crowded = [name for name, state in self._waiting.items() if state == CROWDED]
        new = Deadline.after(self._timing.crowded)
        self._crowded = {name: self._crowded.get(name, new) for name in crowded}
        for name, deadline in self._crowded.items():
            if deadline.passed:
                again = "sending its spec again, so that Swarm ends them"
                self._progress.log(f"{name} {CROWDED}; {again}")
                self._crowded[name] = new
                with suppress(*MANAGER_ERRORS):  # it may have changed meanwhile
                    self._manager.resend(self._observer.now.services[name])

    def _can_start_probe(self) -> bool:
        # The probe may start while services are being created. Beside existing services that are
        # not updated yet, it would prove the old ones.
        existing = self._observer.start.services.keys() - set(self._request.healthy)
        return not self._waiting.keys() & existing

    def _status(self) -> str:
        starts = self._probe.created or not self._waiting
        return "; ".join(([self._probe.log.progress] if starts else []) + _states(self._waiting))

    def _check_time(self) -> None:
        late = undeclared(self._waiting)
        if late and self._appear_by.passed:
            raise UnfitError(
                f"{', '.join(late)}: not created or updated within {self._appear_by.limit:g} s\n"
                f"last step: {self._status()}\nsee the errors of these resources"
            )
        if self._prove_by.passed:
            limit = f"{self._prove_by.limit:g} s"
            raise UnfitError(f"not proven within {limit}\nlast step: {self._status()}")


class Observer:
    """Takes snapshots of the Swarm: one at the `start`, and the last one, `now`."""

    def __init__(self, manager: Manager, names: Iterable[str], timing: Timing) -> None:
        self._manager = manager
        self._names = list(names)
        self._timing = timing
        self.start = self.now = self.snapshot()
        self._answer_by = Deadline.after(timing.silence)
        self._examine_at = Deadline.after(timing.examine_pause)
        self._unplaced: dict[str, Deadline] = {}

    def snapshot(self) -> Snapshot:
        """Return a snapshot of the services."""
        return self._manager.snapshot(self._names)

    def look(self) -> None:
        """Update `now`; a manager may be silent for a while, then its error is raised."""
        try:
            self.now = self.snapshot()
            self._answer_by = Deadline.after(self._timing.silence)
        except MANAGER_ERRORS:
            if self._answer_by.passed:
                raise

    def check_tasks(self, names: Iterable[str]) -> None:
        """Raise `UnfitError` if a task of the named services cannot start, however long one waits.

        Tasks that had ended before the start do not count.
        """
        if reason := unrecoverable(self.now.since(self.start), names, self._nodes_to_examine()):
            raise UnfitError(reason)

    def _nodes_to_examine(self) -> list[dict[str, Any]]:
        """Return the nodes if a task has waited long for a node, else none."""
        unplaced = [t for t in self.now.tasks if t["Status"]["State"] == "pending" and error_of(t)]
        new = Deadline.after(self._timing.unplaced)
        self._unplaced = {t["ID"]: self._unplaced.get(t["ID"], new) for t in unplaced}
        long = any(deadline.passed for deadline in self._unplaced.values())
        if not long or not self._examine_at.passed:
            return []
        self._examine_at = Deadline.after(self._timing.examine_pause)
        return self._manager.nodes()


def _proven_hashes(manager: Manager, cluster: str) -> dict[str, str]:
    return proven_hashes(newest(manager.configs(record_name(cluster)), cluster))


def _states(waiting: Mapping[str, str]) -> list[str]:
    names: dict[str, list[str]] = {}
    for name, state in waiting.items():
        names.setdefault(state, []).append(name)
    return [f"{', '.join(services)}: {state}" for state, services in names.items()]
