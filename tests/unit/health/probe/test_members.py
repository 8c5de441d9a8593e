"""As many workers as expected, as large, and still the same."""

import pytest

from health.probe import UnprovenError
from health.probe.members import MovedError, check_size, moved_or, workers_of
from health.probe.messages import Expected

GIB = 2**30


def member(threads=1, memory=GIB):
    return {"nthreads": threads, "memory_limit": memory}


def test_the_right_size_passes():
    """Threads and memory count together."""
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
def test_another_size_is_told_by_worker(members, message):
    """Neither less nor more is what was declared."""
    with pytest.raises(UnprovenError, match=message):
        check_size(members, Expected(workers=2, threads=2, memory_bytes=2 * GIB))


def test_workers_that_came_or_went_are_no_failure(client, monkeypatch):
    """The proof starts again instead of blaming those that are there now."""
    one, other = workers_of(client)
    assert isinstance(moved_or(client, [one], "complaint"), MovedError)
    assert isinstance(moved_or(client, [one, other], "complaint"), UnprovenError)
