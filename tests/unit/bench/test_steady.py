"""The table of memory during steady work, and its limit."""

import pytest

from bench.steady import EDGE, MAX_GAIN, table


def samples(first, last):
    """Return samples that are low in the first half."""
    return [50.0] * 2 * EDGE + [first] * EDGE + [last] * EDGE


def test_the_gain_does_not_count_the_first_half():
    """Dask fills its logs then."""
    memory = {"scheduler": samples(120.0, 123.5), "largest worker": samples(200.0, 190.0)}
    title, scheduler, worker = table(12_000, memory).splitlines()
    assert "12,000 tasks" in title
    assert ["scheduler", "120.0", "123.5", "+3.5"] == scheduler.split()
    assert ["largest", "worker", "200.0", "190.0", "-10.0"] == worker.split()


def test_a_scheduler_that_gains_too_much_fails():
    """The message has the table."""
    memory = {"scheduler": samples(120.0, 121.0 + MAX_GAIN), "largest worker": samples(1.0, 1.0)}
    with pytest.raises(RuntimeError, match=rf"(?s)gains more than .* \+{MAX_GAIN + 1}\.0"):
        table(1, memory)
