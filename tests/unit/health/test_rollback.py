"""The way back from an update: what it has changed, what can return, and what to tell of it."""

import itertools

import pytest
from docker.errors import APIError

from health import rollback
from health.rollback import (
    Past,
    account,
    changed,
    go_back,
    reserve,
    returning,
    reversible,
    stopped,
)
from swarm.progress import Progress
from swarm.snapshot import Snapshot, spec_hash
from tests.unit.swarm.test_snapshot import SPEC_HASH, TEMPLATE, service, task

THEN, NOW = 1_800_000_000.0, "2027-01-15T08:00:01.123456789Z"
DECLARED = {"dask_worker": SPEC_HASH}
ROLLED_BACK = {"State": "rollback_completed", "StartedAt": "t", "Message": "due to failure of t1"}


def snapshot(found=None, *tasks):
    return Snapshot(services={"dask_worker": found} if found else {}, tasks=tasks)


def updated(previous="old", update=None, declared=SPEC_HASH, at=NOW):
    former = {"PreviousSpec": service(declared=previous)["Spec"]} if previous else {}
    return service(update, declared) | former | {"UpdatedAt": at}


def past(found=None, proven=None):
    imprints = {"dask_worker": spec_hash({"Spec": proven})} if proven else {}
    return Past(start=snapshot(found), proven=imprints)


def working(number):
    at_work = {"Status": {"State": "running"}}
    return [task() | at_work | {"ID": f"t{each}", "Slot": each} for each in range(number)]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, {}),
        (updated(declared="old", at="2027-01-15T07:00:00Z"), DECLARED),
        (updated(), DECLARED),
        (updated(update={"State": "updating", "StartedAt": NOW}), DECLARED),
        (updated(at="2027-01-15T07:59:59Z"), {}),
        (updated(update={"State": "completed", "StartedAt": "2027-01-15T07:59:59Z"}), {}),
        (updated(update=ROLLED_BACK | {"StartedAt": NOW}), {}),
    ],
    ids=[
        "not there before",
        "not yet declared",
        "declared just now",
        "declared just now and under way",
        "declared long ago",
        "declared long ago and only now completed",
        "only now back from what came between",
    ],
)
def test_a_service_counts_as_changed_when_this_deployment_declared_it(found, expected):
    """Also when the Swarm was told before the proof began, which runs beside it."""
    assert expected == changed(past(found), DECLARED, THEN)


LONG_AGO = "2027-01-15T07:00:00Z"
BEFORE, NOW_DECLARED = service(declared="old")["Spec"], service()["Spec"]


@pytest.mark.parametrize(
    ("found", "proven", "expected"),
    [
        (updated(at=LONG_AGO), BEFORE, DECLARED),
        (updated(update={"State": "updating", "StartedAt": LONG_AGO}), BEFORE, DECLARED),
        (updated(at=LONG_AGO), NOW_DECLARED, {}),
        (updated(), NOW_DECLARED, {}),
        (updated(at=LONG_AGO), service(declared="older")["Spec"], {}),
        (updated(None, at=LONG_AGO), BEFORE, {}),
    ],
    ids=[
        "declared by a deployment that was interrupted",
        "and still under way",
        "proven since",
        "made again what was proven",
        "proven before that",
        "never updated",
    ],
)
def test_what_was_never_proven_counts_as_changed_whoever_declared_it(found, proven, expected):
    """Whatever the clocks of several managers say; and what is proven never does."""
    assert expected == changed(past(found, proven), DECLARED, THEN)


def test_what_was_proven_is_not_taken_back():
    """An interrupted deployment came between, of which nobody knows whether it works."""
    assert [] == reversible(snapshot(updated()), past(updated(), NOW_DECLARED), DECLARED)


def test_time_is_kept_for_a_way_back_only_where_there_is_one():
    """A first deployment may use all of its deadline."""
    assert 0 == reserve(300, {})
    assert 60 == reserve(300, DECLARED)
    assert 10 == reserve(40, DECLARED)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (updated(), True),
        (updated(None), False),
        (updated(SPEC_HASH), False),
        (updated(declared="older"), False),
        (None, False),
    ],
    ids=["updated", "never updated", "updated to the same", "back already", "gone"],
)
def test_only_what_was_updated_can_go_back(found, expected):
    """Two requests would bring the failed update back."""
    assert expected == bool(reversible(snapshot(found), past(), DECLARED))


def test_a_service_without_a_revision_can_be_gone_back_to():
    """Another program may have declared it."""
    found = updated()
    found["PreviousSpec"] = found["PreviousSpec"] | {"Labels": None}
    assert [found] == reversible(snapshot(found), past(), DECLARED)


def test_a_service_is_back_when_its_tasks_run_again():
    """However the Swarm came to go back: told to, or by itself."""
    start, back = updated(declared="old"), updated(declared="old", update=ROLLED_BACK)
    missing = {"dask_worker": "3 of 4 tasks of dask_worker run again"}
    assert missing == returning(snapshot(back, *working(3)), snapshot(start), DECLARED)
    done = snapshot(back, *working(4))
    assert {"dask_worker": ""} == returning(done, snapshot(start), DECLARED)


def test_tasks_of_the_failed_update_do_not_count_as_back():
    """They may still run, of another spec."""
    start, back = updated(declared="old"), updated(declared="old", update=ROLLED_BACK)
    tasks = [each | {"Spec": TEMPLATE | {"ForceUpdate": 1}} for each in working(4)]
    (missing,) = returning(snapshot(back, *tasks), snapshot(start), DECLARED).values()
    assert "0 of 4" in missing


@pytest.mark.parametrize(
    "found", [updated(declared="old"), updated(update=ROLLED_BACK)], ids=["untouched", "declared"]
)
def test_a_service_that_was_not_taken_back_is_not_told_of(found):
    """It is what it was, or what it was to be."""
    assert {} == returning(snapshot(found), snapshot(updated(declared="older")), DECLARED)


def test_the_account_names_who_is_back_and_who_is_not():
    """Nothing is said of a way back that there was no need to go."""
    told = account({"a": "", "b": "1 of 2 tasks of b run again", "c": ""}, "")
    assert "rolled back: a, c as before this update" in told
    assert "being rolled back: 1 of 2 tasks of b run again; the Swarm goes on with it" in told
    assert "" == account({}, "")


class Manager:
    """A Swarm that is told to go back, refuses once, and needs a look to have done it."""

    poll_seconds = 0

    def __init__(self):
        self.found, self.looks, self.refusals = updated(), itertools.count(), 1

    def snapshot(self, _):
        return snapshot(self.found, *working(min(next(self.looks), 4)))

    def roll_back(self, _):
        if self.refusals:
            self.refusals -= 1
            raise APIError("update out of sequence")
        self.found = updated(SPEC_HASH, ROLLED_BACK, "old")


def test_the_way_back_ends_where_the_old_tasks_run():
    """A service that changes at the same moment is asked again."""
    told = go_back(Manager(), past(updated()), DECLARED, Progress(), 5)
    assert "rolled back: dask_worker as before this update" == told


class LateEngine(Manager):
    """A Swarm that is told of an update only when the proof has failed for another one."""

    def __init__(self):
        super().__init__()
        self.found, self.refusals = updated(declared="old"), 0

    def snapshot(self, names):
        found = super().snapshot(names)
        if next(self.looks) == 5:
            self.found = updated()
        return found


def test_an_update_that_comes_during_the_way_back_is_taken_back_as_well():
    """The engine declares one service after the other, and the first may fail before the last."""
    told = go_back(LateEngine(), past(updated(declared="old")), DECLARED, Progress(), 5)
    assert "rolled back: dask_worker as before this update" == told


def test_an_update_that_never_comes_is_not_waited_for_longer_than_its_proof_does(monkeypatch):
    """Something else has failed on the way to it."""
    monkeypatch.setattr(rollback, "APPEAR_SECONDS", 0.05)
    engine, progress = LateEngine(), Progress()
    engine.looks = itertools.count(10)
    assert "" == go_back(engine, past(updated(declared="old")), DECLARED, progress, 5)
    assert 0.05 < progress.elapsed < 1


def test_a_way_back_that_the_swarm_has_paused_is_not_waited_for():
    """Its old tasks fail as well: the Swarm stops there, and says by which."""
    engine = Manager()
    paused = {"State": "rollback_paused", "StartedAt": "t", "Message": "rollback paused due to t7"}
    engine.found = updated(SPEC_HASH, paused, "old")
    progress = Progress()
    told = go_back(engine, past(updated()), DECLARED, progress, 5)
    assert told.startswith("not rolled back: the Swarm paused the way back of dask_worker: ")
    assert "rollback paused due to t7" in told
    assert progress.elapsed < 1


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
def test_only_what_stopped_on_its_way_to_what_is_declared_is_taken_up_again(
    state, declared, expected
):
    """What is to become something else is told to by the engine."""
    found = updated(update={"State": state} if state else None, declared=declared)
    assert expected == bool(stopped(snapshot(found), DECLARED))


def test_the_way_back_ends_with_its_time():
    """A Swarm that refuses for ever is told of in its own words."""
    engine = Manager()
    engine.refusals = -1
    told = go_back(engine, past(updated()), DECLARED, Progress(), 0.05)
    assert told.startswith("not rolled back: ")
    assert "update out of sequence" in told
