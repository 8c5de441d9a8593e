"""Where workers run: the probe's addresses compared with the Swarm's tasks."""

import pytest

from health.placement import crossings, result, seats, spread
from swarm import UnfitError

PLACES = {"10.0.1.5": "node-1", "10.0.1.6": "node-1", "10.0.1.7": "node-2"}
A, B, C = "tcp://10.0.1.5:40001", "tcp://10.0.1.6:40002", "tcp://10.0.1.7:40003"


def test_workers_are_found_by_their_address():
    """A worker's port changes with each start, its address is its task's."""
    assert {A: "node-1", C: "node-2"} == seats([A, C], PLACES)


def test_a_worker_that_is_no_task_is_named():
    """Somebody else's worker is no part of the proof."""
    with pytest.raises(UnfitError, match=r"no task of this deployment: tcp://10\.0\.1\.99:1"):
        seats([A, "tcp://10.0.1.99:1"], PLACES)


def test_the_spread_counts_workers_by_node():
    """The nodes come in order, for an output that does not change by itself."""
    assert {"node-1": 2, "node-2": 1} == spread({C: "node-2", A: "node-1", B: "node-1"}, 2)


def test_a_crowded_node_is_named():
    """A limit of one is broken by the node that has two."""
    with pytest.raises(UnfitError, match="at most 1 workers per node, found node-1 has 2"):
        spread({A: "node-1", B: "node-1", C: "node-2"}, 1)


def test_transfers_between_nodes_are_counted():
    """A transfer between two workers of one node crosses nothing."""
    seated = {A: "node-1", B: "node-1", C: "node-2"}
    assert 2 == crossings([(A, B), (A, C), (C, B)], seated)


def test_a_way_that_was_not_tried_is_named():
    """Each way counts for itself, because firewalls tell them apart."""
    with pytest.raises(UnfitError, match="no transfer was tried from node-2 to node-1"):
        crossings([(A, C)], {A: "node-1", C: "node-2"})


def test_one_node_needs_no_transfer():
    """There is no other node to send anything to."""
    assert 0 == crossings([], {A: "node-1", B: "node-1"})


@pytest.mark.parametrize(("routes", "moved"), [([[A, C], [C, A]], (2, 4)), ([[A, B]], (0, 0))])
def test_the_result_says_what_crossed(routes, moved):
    """The output claims no transfer between nodes where there was none."""
    members = sorted({each for route in routes for each in route})
    proof = {"workers": 2, "threads": 2, "memory_bytes": 2, "versions": {}, "packages": {}}
    proof |= {"tasks": 2, "transfer_bytes": 4, "members": members, "routes": routes}
    found = result(proof, PLACES, 2)
    assert moved == (found["transfers"], found["transfer_bytes"])
    assert {"members", "routes", "object_store"}.isdisjoint(found)


def test_the_result_has_the_object_store_that_was_proven():
    """Only a deployment with a bucket of its own has one."""
    proof = dict.fromkeys(("workers", "threads", "memory_bytes", "versions", "packages"), 1)
    proof |= {"tasks": 1, "transfer_bytes": 4, "members": [A], "routes": []}
    store = {"bucket": "dask", "bytes": 4, "seconds": 0.5}
    assert store == result(proof | {"object_store": store}, PLACES, 2)["object_store"]
