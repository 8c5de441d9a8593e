"""Workers whose threads run tasks of users, and why a task has no result."""

import re
import threading
import time
from types import SimpleNamespace

import distributed
import pytest

from health.probe import busy
from health.probe.busy import BusyError, ask, check_busy, explain, wait
from health.probe.members import workers_of
from health.probe.tasks import submit
from tests.conftest import wait_for


def where(*_):
    return distributed.get_worker().address


@pytest.fixture
def two(client):
    """Return the addresses of the two workers, in order."""
    return sorted(workers_of(client))


@pytest.fixture
def at_once(monkeypatch):
    """Make every running task of a user a long one."""
    monkeypatch.setattr(busy, "BUSY_SECONDS", 0.2)


def test_a_wait_ends_after_its_seconds(client):
    """A worker that hangs does not hold up the proof."""
    start = time.monotonic()
    gone = submit(client, "tcp://127.0.0.1:1", where)
    wait(client, [], [gone], 0.1)
    assert 0.1 <= time.monotonic() - start < 5


def test_a_wait_goes_on_while_tasks_get_done(client, two):
    """Many workers on a slow node take their time, and none of them is broken."""
    slow = [submit(client, two[0], lambda: time.sleep(0.3)) for _ in range(5)]
    wait(client, two, slow, 1)
    assert all(future.done() for future in slow)


def test_a_long_task_of_a_user_is_not_waited_for(client, two, at_once, training):
    """The error has the busy worker with its task, and no other worker."""
    start = time.monotonic()
    with training(two[1]):
        futures = [submit(client, worker, where) for worker in two]
        with pytest.raises(BusyError) as found:
            wait(client, two, futures, 20)
    assert time.monotonic() - start < 10
    assert [two[1]] == [*found.value.workers]
    assert re.fullmatch(r"train for \d+ s", found.value.workers[two[1]])


def test_short_tasks_of_users_are_waited_for(client, two, monkeypatch):
    """Each task of the proof is next on the thread, before older tasks of a backlog."""
    monkeypatch.setattr(busy, "BUSY_SECONDS", 1)  # longer than any task of 0.1 s takes
    backlog = client.map(lambda _: time.sleep(0.1), range(100), workers=[two[0]], pure=False)
    chain = [submit(client, two[0], where)]
    for _ in range(15):
        chain.append(submit(client, two[0], where, chain[-1]))
    wait(client, two, chain, 30)
    assert [two[0]] * 16 == client.gather(chain)
    assert any(not future.done() for future in backlog)
    client.cancel(backlog)


def test_a_task_that_waits_behind_short_ones_is_no_fault(client, two, training):
    """At the end of the wait every task of a user counts."""
    with training(two[0]), pytest.raises(BusyError):
        wait(client, two, [submit(client, two[0], where)], 1)


def test_a_paused_worker_with_a_task_of_a_user_is_busy(client, two, training):
    """The task fills the memory, and the scheduler sends no other task to a paused worker."""

    def pause_at(dask_worker, fraction):
        dask_worker.memory_manager.memory_pause_fraction = fraction

    with training(two[0]):
        client.run(pause_at, fraction=0.01, workers=[two[0]])
        wait_for("pause", lambda: "paused" == workers_of(client)[two[0]]["status"])
        try:
            with pytest.raises(BusyError):
                wait(client, two, [submit(client, two[0], where)], 1)
        finally:
            client.run(pause_at, fraction=0.8, workers=[two[0]])
    wait_for("end of the pause", lambda: "running" == workers_of(client)[two[0]]["status"])


BUSY = {"running": {"train-1": 412.0}, "own": {}, "ready": 1, "waiting": True, "threads": 1}


@pytest.mark.parametrize(
    "change", [{"threads": 2}, {"own": {"train-1": "a line"}}, {"running": {}}, {"waiting": False}]
)
def test_other_workers_are_not_busy(client, monkeypatch, change):
    """A thread is free or runs a task of the proof, or no task of the proof waits."""
    monkeypatch.setattr(busy, "ask", lambda *_: {"one": BUSY | change, "other": BUSY})
    with pytest.raises(BusyError) as found:
        check_busy(client, ["one", "other"])
    assert {"other": "train for 412 s"} == found.value.workers


def test_a_worker_that_is_gone_is_not_busy(client, two):
    """Only the others answer."""
    addresses = [*two, "tcp://127.0.0.1:1"]
    assert dict(zip(two, two, strict=True)) == ask(
        client, addresses, lambda worker: worker.address
    )


def test_a_worker_that_is_stuck_does_not_hold_up_the_others(monkeypatch):
    """Its event loop is blocked, so it may never answer."""
    monkeypatch.setattr(busy, "ASK_SECONDS", 0.2)
    released = threading.Event()

    def run(_, workers, on_error):
        if workers == ["stuck"]:
            released.wait(5)
        return {workers[0]: "answer"}

    start = time.monotonic()
    assert {"free": "answer"} == ask(SimpleNamespace(run=run), ["stuck", "free"], where)
    assert time.monotonic() - start < 3
    released.set()


def test_a_task_without_a_result_is_explained(client, two):
    """Its state, the worker's state, memory and tasks, and the line where it hangs."""
    hangs = submit(client, two[0], lambda: time.sleep(1))
    waits = submit(client, two[0], where)
    wait(client, two, [hangs], 0.5)
    text = explain(client, two[0], waits.key)
    assert "its state is processing; the worker is running at " in text
    assert re.search(r" MiB of 1024 MiB, runs lambda for \d s and has 1 ready; lambda-", text)
    assert re.search(r"lambda-\S+ is at File .*, line \d+, in <lambda> hangs = submit", text)


def test_a_task_that_no_worker_has_is_explained(client):
    """The scheduler waits for a worker that is gone."""
    lost = submit(client, "tcp://127.0.0.1:1", where)
    wait(client, [], [lost], 0.2)
    text = explain(client, "tcp://127.0.0.1:1", lost.key)
    assert "its state is no-worker, and the worker is gone" == text


def test_a_worker_that_is_stuck_is_explained(client, two, monkeypatch):
    """Its event loop answers nothing."""
    monkeypatch.setattr(busy, "ask", lambda *_: {})
    task = submit(client, two[0], where)
    assert "and does not answer within 5 s" in explain(client, two[0], task.key)
