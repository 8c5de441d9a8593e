"""The number of workers, their size, and whether they change."""

import pytest

from health.probe import UnprovenError
from health.probe import members as module
from health.probe.members import check_size, moved, workers_of
from health.probe.messages import Expected

GIB = 2**30


def member(threads=1, memory=GIB):
    return {"nthreads": threads, "memory_limit": memory}


def test_the_right_size_passes():
    """Threads and memory are sums over all workers."""
    check_size(
        {"a": member(), "b": member()}, Expected(workers=2, threads=2, memory_bytes=2 * GIB)
    )


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a": member(threads=2), "b": member()}, "expected 2 threads, found 3.*a has 2 threads"),
        ({"a": member(memory=GIB // 2), "b": member()}, "expected 2.00 GiB .*found 1.50 GiB"),
        ({"a": member(memory=None), "b": member()}, "expected 2.00 GiB .*found 1.00 GiB"),
        ({"a": member(memory=GIB + 1), "b": member()}, r"2147483649 bytes"),
    ],
)
def test_a_wrong_size_is_reported_by_worker(members, message):
    """Too little and too much both fail."""
    with pytest.raises(UnprovenError, match=message):
        check_size(members, Expected(workers=2, threads=2, memory_bytes=2 * GIB))


TWO_MISSING = Expected(workers=4, threads=4, memory_bytes=4 * GIB, missing=2)


def found_workers(count):
    """Return so many workers by address."""
    return {f"tcp://{number}": member() for number in range(count)}


@pytest.mark.parametrize("count", [2, 3, 4])
def test_missing_workers_are_allowed_for(monkeypatch, count):
    """Their threads and memory are missing too; more workers may come back, and stay."""
    monkeypatch.setattr(module, "SETTLING_SECONDS", 0)
    found = found_workers(count)
    monkeypatch.setattr(module, "workers_of", lambda _: found)
    assert found == module.wait_for_members(None, TWO_MISSING)


def test_workers_of_a_lost_node_that_the_scheduler_still_knows_are_not_proven(monkeypatch):
    """The scheduler forgets them soon."""
    counts = iter([4, 3, 2])
    monkeypatch.setattr(module, "workers_of", lambda _: found_workers(next(counts)))
    assert 2 == len(module.wait_for_members(None, TWO_MISSING))


def test_the_workers_that_can_run_must_come(monkeypatch):
    """One worker is not enough where two of four may be missing."""
    counts = iter([1, 1, 2])
    monkeypatch.setattr(module, "workers_of", lambda _: found_workers(next(counts)))
    assert 2 == len(module.wait_for_members(None, TWO_MISSING))
    assert [] == list(counts)


def test_a_change_of_workers_is_noticed(client):
    """The proof starts again with the new workers."""
    one, other = workers_of(client)
    assert moved(client, [one])
    assert moved(client, [one, other, "tcp://gone:1"])
    assert not moved(client, [one, other])
