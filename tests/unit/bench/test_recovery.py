"""The recovery bench kills the worker's process in a container."""

from bench.faults import worker_process


def test_a_nannys_worker_is_killed_and_not_a_health_check():
    """A health check is younger, and its parent is outside the container."""
    init, nanny, tracker, worker = ("10", "1"), ("11", "10"), ("12", "11"), ("13", "11")
    assert 13 == worker_process(10, [init, nanny, tracker, worker, ("99", "1")])


def test_a_worker_without_a_nanny_is_killed():
    """It is the only process."""
    assert 10 == worker_process(10, [("10", "1")])
