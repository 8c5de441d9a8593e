"""Watches over one proof: the declared services' rollout, the probe's progress, and the time."""

import re
import time
from collections.abc import Mapping
from typing import Any

from health import job, placement
from health.diagnose import hopeless, report
from health.evidence import inquire, places
from health.log_reader import BEGINNING, Listener
from health.request import Request
from health.rollback import (
    APPEAR_SECONDS,
    LEAD_SECONDS,
    Past,
    changed,
    go_back,
    reserve,
    stopped,
)
from swarm import UnfitError
from swarm.causes import error_of
from swarm.manager import MANAGER_ERRORS, Manager
from swarm.progress import Progress
from swarm.proof_record import PROOF_RECORD, newest, proven_hashes
from swarm.snapshot import ENDED, STALE, Snapshot, spec_hash, undeclared, unsettled

PENDING_SECONDS = 20  # before a task that waits for a place is judged
JUDGING_PAUSE = 5
# Of a manager, while another one is elected: that takes 10 s to 20 s from the last word of the old
# one (https://github.com/moby/swarmkit, manager/state/raft), and a request that comes meanwhile
# may take as long as an answer may at all.
SILENCE_SECONDS = 45
MARGIN_SECONDS = 5  # by which the probe gives up before the launcher, to be heard
LAST_WORDS_SECONDS = 4  # from the end of the probe's last task to the arrival of its last line

_WORKER = re.compile(r"\b(?:tcp|tls)://(?P<host>[0-9.]+|\[[0-9a-f:]+\]):\d+")


class Watch:
    """One proof, from its request to its result or report; `begun` once there may be a service."""

    def __init__(self, manager: Manager, request: Request, name: str, progress: Progress) -> None:
        self.begun = False
        self._manager = manager
        self._request = request
        self._name = name
        self._progress = progress
        self._listener: Listener | None = None
        self._start = self._now = self._snapshot()
        since = manager.clock() - progress.elapsed - LEAD_SECONDS
        proven = proven_hashes(newest(manager.configs(PROOF_RECORD)))
        self._past = Past(start=self._start, proven=proven)
        self._changes = changed(self._past, request.services, since)
        self._limit = request.deadline_seconds - reserve(request.deadline_seconds, self._changes)
        self._waiting: dict[str, str] = {}
        self._pending: dict[str, float] = {}  # task id to when it was first seen to wait
        self._judged = self._busy = self._answered = progress.elapsed

    def result(self) -> dict[str, Any]:
        """Return the stack's output; raises `UnfitError`."""
        outcome = self._outcome()
        found = places(self._now, self._manager.nodes(), self._request.network_id)
        if "failure" in outcome:
            failure = _WORKER.sub(lambda worker: _named(worker, found), outcome["failure"])
            at = self._progress.elapsed
            raise UnfitError(f"{failure}\nlast step, at {at:.1f} s: {self._status()}")
        nodes = {address: node for address, (_, node) in found.items()}
        result = placement.result(outcome["proof"], nodes, self._request.expected.workers_per_node)
        if not result["transfers"]:
            self._progress.say("all workers are on one node: no transfer between nodes to prove")
        proven = {name: spec_hash(self._now.services[name]) for name in self._request.services}
        return {**result, "imprints": proven}

    def report(self, headline: str) -> str:
        """Return the headline and what is wrong with each service."""
        members = self._listener.members if self._listener else None
        try:
            now = self._snapshot()
            evidence = inquire(self._manager, now, self._request.network_id, members, headline)
        except MANAGER_ERRORS as error:
            return f"{headline}\nThe Swarm cannot be asked for details: {error}"
        names = [*self._request.services, *([self._name] if self.begun else [])]
        return report(headline, names, evidence)

    def retreat(self) -> str:
        """Take back what this deployment has changed; return what came of it, if anything."""
        limit = self._request.deadline_seconds
        return go_back(self._manager, self._past, self._changes, self._progress, limit)

    def _outcome(self) -> dict[str, Any]:
        """Return the probe's last message, once the services are as declared."""
        for service in stopped(self._start, self._request.services):
            self._manager.resume(service)
        while True:
            self._look()
            if self._listener is None and self._calm():
                self._listener = self._begin()
            self._pause()
            outcome = self._listener.outcome if self._listener else None
            if outcome and ("failure" in outcome or not self._waiting):
                return outcome

    def _snapshot(self) -> Snapshot:
        return self._manager.snapshot([*self._request.services, self._name])

    def _look(self) -> None:
        try:
            self._now, self._answered = self._snapshot(), self._progress.elapsed
        except MANAGER_ERRORS:
            if self._progress.elapsed - self._answered > SILENCE_SECONDS:
                raise
        self._waiting = unsettled(
            self._now, self._start, self._request.services, self._request.healthy
        )
        self._progress.tell(self._status())
        self._check_time()
        self._check_hope()
        self._check_probe()

    def _calm(self) -> bool:
        # The probe may start beside services that are being created, and beside those that it does
        # not meet. Where there were others before, it would prove those.
        met = self._start.services.keys() - set(self._request.healthy)
        return not self._waiting.keys() & met

    def _begin(self) -> Listener:
        left = self._limit - self._progress.elapsed
        spec = job.spec(
            self._request, self._name, max(left - MARGIN_SECONDS, 1), time.time() + left
        )
        self.begun = True
        return Listener(self._manager.create(spec))

    def _pause(self) -> None:
        if self._listener:
            self._listener.wait(self._manager.poll_seconds)
        else:
            time.sleep(self._manager.poll_seconds)

    def _status(self) -> str:
        said = [self._listener.said] if self._listener else [] if self._waiting else [BEGINNING]
        alike: dict[str, list[str]] = {}
        for name, what in self._waiting.items():
            alike.setdefault(what, []).append(name)
        return "; ".join(said + [f"{', '.join(who)}: {what}" for what, who in alike.items()])

    def _check_time(self) -> None:
        elapsed, limit = self._progress.elapsed, self._limit
        late = undeclared(self._waiting)
        if late and elapsed > APPEAR_SECONDS:
            raise UnfitError(
                f"{', '.join(late)} did not appear as declared within {APPEAR_SECONDS} s: "
                f"{self._status()}; the messages about their creation or update say why"
            )
        if elapsed > limit:
            raise UnfitError(f"not proven within {limit:g} s\nlast step: {self._status()}")

    def _check_hope(self) -> None:
        now = self._progress.elapsed
        pending = [task for task in self._now.tasks if task["Status"]["State"] == "pending"]
        waiting = [task["ID"] for task in pending if error_of(task)]
        self._pending = {each: self._pending.get(each, now) for each in waiting}
        longest = now - min(self._pending.values(), default=now)
        nodes: list[dict[str, Any]] = []
        if longest > PENDING_SECONDS and now - self._judged > JUDGING_PAUSE:
            self._judged, nodes = now, self._manager.nodes()
        # What failed before, perhaps weeks ago, says nothing about this deployment, nor does what
        # fails until its service has become what was declared.
        names = [name for name in self._now.services if self._waiting.get(name) != STALE]
        if reason := hopeless(self._now.since(self._start), names, nodes):
            raise UnfitError(reason)

    def _check_probe(self) -> None:
        tasks = self._now.tasks_of(self._name)
        told = self._listener and self._listener.outcome
        at_work = [task for task in tasks if task["Status"]["State"] not in ENDED]
        if told or at_work or not tasks:
            self._busy = self._progress.elapsed
        elif self._progress.elapsed - self._busy > LAST_WORDS_SECONDS:
            errors = dict.fromkeys(error_of(task) or task["Status"]["State"] for task in tasks)
            raise UnfitError(f"the probe ended without a result: {', '.join(errors)}")


def _named(worker: re.Match[str], found: Mapping[str, tuple[str, str]]) -> str:
    """Return `dask_worker.3 on node-2 (tcp://10.0.1.5:40000)` for the address in a message."""
    label, node = found.get(worker["host"].strip("[]"), ("a worker of unknown origin", ""))
    return f"{label} on {node} ({worker[0]})" if node else f"{label} ({worker[0]})"
