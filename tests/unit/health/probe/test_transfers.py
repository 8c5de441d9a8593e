"""The routes of the transfers, and the message for a transfer that does not arrive."""

from collections import Counter
from itertools import pairwise, permutations
from types import SimpleNamespace

import pytest

from health.probe import UnprovenError, transfers
from health.probe.members import workers_of


@pytest.mark.parametrize("sizes", [[1], [1, 1], [2, 2], [1, 2, 3], [1] * 7, [5, 1, 4, 2]])
def test_transfers_go_from_every_engine_to_every_other(sizes):
    """In a round every engine sends once and receives once, never to itself."""
    engines = {f"h{i}": [f"w{i}.{k}" for k in range(size)] for i, size in enumerate(sizes)}
    engine_of = {worker: engine for engine, workers in engines.items() for worker in workers}
    covered = []
    for routes in transfers.rounds(engines):
        crossed = [(engine_of[a], engine_of[b]) for a, b in routes]
        assert {1} == set(Counter(a for a, _ in crossed).values())
        assert {1} == set(Counter(b for _, b in crossed).values())
        covered += crossed
    assert sorted(permutations(engines, 2)) == sorted(covered)


def test_the_workers_of_an_engine_take_turns():
    """The workers of an engine share the memory for the transfers."""
    engines = {"a": ["a1", "a2"], "b": ["b1", "b2"], "c": ["c1", "c2"]}
    senders = [{source for source, _ in routes} for routes in transfers.rounds(engines)]
    assert all(one.isdisjoint(other) for one, other in pairwise(senders))


def test_data_moves_between_engines(client):
    """In both directions."""
    one, other = workers_of(client)
    routes = transfers.transfer(client, {one: "engine-1", other: "engine-2"})
    assert {(one, other), (other, one)} == set(routes)


def test_a_route_for_small_packets_only_is_reported(client, monkeypatch):
    """Connections open and data does not arrive: the packets are too large."""
    monkeypatch.setattr(transfers, "TRANSFER_SECONDS", 0)
    one, other = workers_of(client)
    with pytest.raises(UnprovenError, match=f"{one} to {other}.*check the overlay's MTU"):
        transfers.transfer(client, {one: "engine-1", other: "engine-2"})


def test_a_closed_route_is_reported(client, monkeypatch):
    """No connection opens."""
    monkeypatch.setattr(transfers, "TRANSFER_SECONDS", 0)
    monkeypatch.setattr(transfers, "accepts_connection", lambda _: False)
    one, other = workers_of(client)
    message = "nothing gets through; open 4789/udp .*, with networkEncrypted also IP protocol 50"
    with pytest.raises(UnprovenError, match=message):
        transfers.transfer(client, {one: "engine-1", other: "engine-2"})


def test_data_that_arrives_changed_is_a_failed_route(client, monkeypatch):
    """The network or a worker's memory changes bytes."""
    one, other = workers_of(client)

    def checksums(status, *values):
        return [SimpleNamespace(status=status, result=lambda _, v=v: v) for v in values]

    assert transfers.arrived(*checksums("finished", 1, 1))
    assert not transfers.arrived(*checksums("finished", 1, 2))
    assert not transfers.arrived(*checksums("error", 1, 1))
    monkeypatch.setattr(transfers, "start_transfer", lambda *_: changed)
    changed = checksums("finished", 1, 2)
    for future in changed:
        future.done = lambda: True
    with pytest.raises(UnprovenError, match=f"a transfer of 4 MiB from {one} to {other}"):
        transfers.transfer(client, {one: "engine-1", other: "engine-2"})
