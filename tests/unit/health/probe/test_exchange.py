"""Arrays and frames that come back unchanged, or an error with the worker."""

import pytest

from health.probe import UnprovenError, exchange
from health.probe.members import workers_of


def test_an_array_comes_back_from_every_worker(client):
    """A worker reads the client's array and sends it back."""
    kinds = [kind for kind, _, _ in exchange.samples()]
    assert any("an array of numpy" in kind for kind in kinds)
    exchange.exchange(client, sorted(workers_of(client)))


def test_a_worker_that_cannot_read_is_named(client, monkeypatch):
    """The message has the kind of the sample and the worker's error."""
    monkeypatch.setattr(exchange, "echo", lambda _: 1 / 0)
    first, other = sorted(workers_of(client))
    message = f"expected {first} to send an array of numpy .* back, found ZeroDivisionError"
    with pytest.raises(UnprovenError, match=message):
        exchange.exchange(client, [first, other])


def test_a_changed_array_is_an_error(client, monkeypatch):
    """The worker's numpy reads other values."""
    monkeypatch.setattr(exchange, "echo", lambda sample: sample + 1)
    with pytest.raises(UnprovenError, match=r"an array of numpy .* came back changed"):
        exchange.exchange(client, sorted(workers_of(client)))
