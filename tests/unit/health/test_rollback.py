"""The rollback of an update: the updated services, their stages, and the end of the report."""

import itertools
from dataclasses import replace

import pytest
from docker.errors import APIError

from health.rollback import Outcome, Rollback, Stage, roll_back
from health.timing import Deadline
from swarm.progress import Progress
from swarm.snapshot import Snapshot, spec_hash
from tests.unit.swarm.test_snapshot import SPEC_HASH, TEMPLATE, service, task

THEN, NOW = 1_800_000_000.0, "2027-01-15T08:00:01.123456789Z"
DECLARED = {"dask_worker": SPEC_HASH}
UPDATED = ["dask_worker"]
ROLLED_BACK = {"State": "rollback_completed", "StartedAt": "t", "Message": "due to failure of t1"}


def snapshot(existing=None, *tasks):
    return Snapshot(services={"dask_worker": existing} if existing else {}, tasks=tasks)


def updated(previous="old", update=None, declared=SPEC_HASH, at=NOW):
    former = {"PreviousSpec": service(declared=previous)["Spec"]} if previous else {}
    return service(update, declared) | former | {"UpdatedAt": at}


def rollback(existing=None, proven=None):
    """Return the rollback of a deployment that started with a service, and a proven spec."""
    hashes = {"dask_worker": spec_hash({"Spec": proven})} if proven else {}
    return Rollback(start=snapshot(existing), declared=DECLARED, proven=hashes, since=THEN)


def running(number):
    state = {"Status": {"State": "running"}}
    return [task() | state | {"ID": f"t{slot}", "Slot": slot} for slot in range(number)]


@pytest.mark.parametrize(
    ("existing", "expected"),
    [
        (None, []),
        (updated(declared="old", at="2027-01-15T07:00:00Z"), UPDATED),
        (updated(), UPDATED),
        (updated(update={"State": "updating", "StartedAt": NOW}), UPDATED),
        (updated(at="2027-01-15T07:59:59Z"), []),
        (updated(update={"State": "completed", "StartedAt": "2027-01-15T07:59:59Z"}), []),
        (updated(update=ROLLED_BACK | {"StartedAt": NOW}), []),
    ],
    ids=[
        "new",
        "not updated yet",
        "updated just now",
        "update running",
        "updated long ago",
        "updated long ago and completed just now",
        "rolled back just now",
    ],
)
def test_a_service_is_updated_if_its_update_is_recent(existing, expected):
    """The update may have reached the Swarm shortly before the proof."""
    assert expected == rollback(existing).updated


LONG_AGO = "2027-01-15T07:00:00Z"
BEFORE, NOW_DECLARED = service(declared="old")["Spec"], service()["Spec"]


@pytest.mark.parametrize(
    ("existing", "proven", "expected"),
    [
        (updated(at=LONG_AGO), BEFORE, UPDATED),
        (updated(update={"State": "updating", "StartedAt": LONG_AGO}), BEFORE, UPDATED),
        (updated(at=LONG_AGO), NOW_DECLARED, []),
        (updated(), NOW_DECLARED, []),
        (updated(at=LONG_AGO), service(declared="older")["Spec"], []),
        (updated(None, at=LONG_AGO), BEFORE, []),
    ],
    ids=[
        "updated by an interrupted deployment",
        "update still running",
        "proven since",
        "updated to the proven spec",
        "an older spec is proven",
        "never updated",
    ],
)
def test_a_service_is_updated_if_its_previous_spec_is_proven(existing, proven, expected):
    """The time does not matter then, and a proven spec is never an update."""
    assert expected == rollback(existing, proven).updated


def test_a_proven_spec_is_not_rolled_back():
    """The previous spec is from an interrupted deployment and may not work."""
    assert Stage.FINAL is rollback(updated(), NOW_DECLARED).stage(updated())


def test_time_is_kept_for_a_rollback_only_after_an_update():
    """A first deployment may use all of its deadline."""
    assert 0 == rollback().reserved_seconds(300)
    assert 60 == rollback(updated()).reserved_seconds(300)
    assert 10 == rollback(updated()).reserved_seconds(40)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (updated(), Stage.REVERSIBLE),
        (updated(None), Stage.FINAL),
        (updated(SPEC_HASH), Stage.FINAL),
        (updated(declared="older"), Stage.EXPECTED),
        (updated(declared="old", update=ROLLED_BACK), Stage.ROLLING_BACK),
    ],
    ids=["updated", "never updated", "updated to the same", "not updated yet", "rolled back"],
)
def test_only_an_updated_service_is_rolled_back(now, expected):
    """A second rollback would bring the failed update back."""
    assert expected is rollback(updated(declared="older")).stage(now)


def test_a_previous_spec_without_a_spec_hash_is_rolled_back_to():
    """Another program may have declared it."""
    now = updated()
    now["PreviousSpec"] = now["PreviousSpec"] | {"Labels": None}
    assert Stage.REVERSIBLE is rollback().stage(now)


class Swarm:
    """A manager that may fail rollbacks; the old tasks start one by one, with every snapshot."""

    poll_seconds = 0

    def __init__(self, existing, tasks=None, refusals=0):
        self.existing = existing
        self.tasks, self.snapshots, self.refusals = tasks, itertools.count(), refusals

    def snapshot(self, _):
        tasks = running(min(next(self.snapshots), 4)) if self.tasks is None else self.tasks
        return snapshot(self.existing, *tasks)

    def roll_back(self, _):
        if self.refusals:
            self.refusals -= 1
            raise APIError("update out of sequence")
        self.existing = updated(SPEC_HASH, ROLLED_BACK, "old")


def step(existing, start, *tasks):
    """Return the outcome of one step for an updated service."""
    deployment = replace(rollback(start), since=0.0)
    return deployment.step(Swarm(existing, tasks), Deadline.after(5))


def finish(swarm, start, seconds=5, appear=45):
    """Return the end of the report of a rollback."""
    deadline = Deadline.after(seconds)
    return str(roll_back(rollback(start), swarm, Progress(), deadline, deadline.sub(appear)))


def test_a_service_is_rolled_back_when_its_tasks_run_again():
    """Swarm itself may have started the rollback."""
    start, now = updated(declared="old"), updated(declared="old", update=ROLLED_BACK)
    outcome = step(now, start, *running(3))
    assert {"dask_worker": "3 of 4 tasks of dask_worker run again"} == outcome.missing
    assert outcome.busy
    done = step(now, start, *running(4))
    assert ({"dask_worker": ""}, False) == (done.missing, done.busy)


def test_tasks_of_the_failed_update_do_not_count():
    """They may still run, with another spec."""
    start, now = updated(declared="old"), updated(declared="old", update=ROLLED_BACK)
    tasks = [one | {"Spec": TEMPLATE | {"ForceUpdate": 1}} for one in running(4)]
    assert "0 of 4" in step(now, start, *tasks).waiting


@pytest.mark.parametrize(
    "now", [updated(declared="old"), updated(update=ROLLED_BACK)], ids=["not updated", "declared"]
)
def test_a_service_without_a_rollback_is_not_reported(now):
    """It has its old spec, or the declared one."""
    assert {} == step(now, updated(declared="older"), *running(4)).missing


def test_a_removed_service_is_ignored():
    """It has no spec to roll back to."""
    outcome = step(None, updated(declared="old"))
    assert ({}, False) == (outcome.missing, outcome.busy)


def test_the_report_has_the_services_before_and_after_their_rollback():
    """Without a rollback it is empty."""
    missing = {"a": "", "b": "1 of 2 tasks of b run again", "c": ""}
    message = str(Outcome(missing=missing))
    assert "rolled back: a, c as before this update" in message
    assert "being rolled back: 1 of 2 tasks of b run again; Swarm goes on with it" in message
    assert "" == str(Outcome(missing={}))


def test_a_rollback_ends_when_the_old_tasks_run():
    """If a service changes at the same moment, the rollback tries again."""
    report = finish(Swarm(updated(), refusals=1), updated())
    assert "rolled back: dask_worker as before this update" == report


class LateSwarm(Swarm):
    """A Swarm that an update reaches while the rollback of another service is under way."""

    def __init__(self):
        super().__init__(updated(declared="old"))

    def snapshot(self, names):
        now = super().snapshot(names)
        if next(self.snapshots) == 5:
            self.existing = updated()
        return now


def test_an_update_during_the_rollback_is_rolled_back_too():
    """Pulumi declares one service after the other, and the first may fail before the last."""
    report = finish(LateSwarm(), updated(declared="old"))
    assert "rolled back: dask_worker as before this update" == report


def test_the_wait_for_an_update_is_limited():
    """It may never come, if another resource has failed."""
    swarm, start = LateSwarm(), Deadline.after(0)
    swarm.snapshots = itertools.count(10)
    assert "" == finish(swarm, updated(declared="old"), appear=0.05)
    assert 0.05 < -start.remaining() < 1


def test_a_paused_rollback_is_not_waited_for():
    """Swarm pauses it when an old task fails; the report has Swarm's message."""
    paused = {"State": "rollback_paused", "StartedAt": "t", "Message": "rollback paused due to t7"}
    swarm, start = Swarm(updated(SPEC_HASH, paused, "old")), Deadline.after(0)
    report = finish(swarm, updated())
    assert report.startswith("not rolled back: Swarm paused the rollback of dask_worker: ")
    assert "rollback paused due to t7" in report
    assert -start.remaining() < 1


@pytest.mark.parametrize(
    ("state", "declared", "expected"),
    [
        ("rollback_paused", SPEC_HASH, True),
        ("paused", SPEC_HASH, True),
        ("rollback_paused", "old", False),
        ("rollback_completed", SPEC_HASH, False),
        (None, SPEC_HASH, False),
    ],
)
def test_only_paused_services_as_declared_are_resumed(state, declared, expected):
    """Pulumi updates the others."""
    existing = updated(update={"State": state} if state else None, declared=declared)
    assert expected == bool(rollback(existing).paused)


def test_a_rollback_ends_at_its_deadline():
    """The report has the manager's error."""
    report = finish(Swarm(updated(), refusals=-1), updated(), seconds=0.05)
    assert report.startswith("not rolled back: ")
    assert "update out of sequence" in report
