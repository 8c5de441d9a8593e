"""Placement: the addresses of workers compared with Swarm's tasks."""

import pytest

from health.placement import (
    cross_node_transfers,
    missing_workers,
    name_workers,
    node_of_worker,
    result,
    workers_by_node,
)
from swarm import UnfitError
from swarm.snapshot import DECLARED_HASH_LABEL, Snapshot
from tests.unit.swarm.test_capacity import NODES, node

LOCATIONS = {
    "10.0.1.5": ("dask_worker.1", "node-1"),
    "10.0.1.6": ("dask_worker.2", "node-1"),
    "10.0.1.7": ("dask_worker.3", "node-2"),
}
A, B, C = "tcp://10.0.1.5:40001", "tcp://10.0.1.6:40002", "tcp://10.0.1.7:40003"


def test_the_node_of_a_worker_is_found_by_its_address():
    """The port changes with every start, the address is its task's."""
    assert {A: "node-1", C: "node-2"} == node_of_worker([A, C], LOCATIONS)


def test_a_worker_that_is_no_task_is_reported():
    """Another program has started it."""
    with pytest.raises(UnfitError, match=r"no task of this deployment: tcp://10\.0\.1\.99:1"):
        node_of_worker([A, "tcp://10.0.1.99:1"], LOCATIONS)


def test_workers_are_counted_by_node():
    """The nodes are sorted, so that the output is stable."""
    assert {"node-1": 2, "node-2": 1} == workers_by_node(
        {C: "node-2", A: "node-1", B: "node-1"}, 2
    )


def test_a_crowded_node_is_reported():
    """A node with two workers exceeds a limit of one."""
    with pytest.raises(UnfitError, match="at most 1 workers per node, but node-1 has 2"):
        workers_by_node({A: "node-1", B: "node-1", C: "node-2"}, 1)


def test_transfers_between_nodes_are_counted():
    """A transfer between two workers of one node does not count."""
    nodes = {A: "node-1", B: "node-1", C: "node-2"}
    assert 2 == cross_node_transfers([(A, B), (A, C), (C, B)], nodes)


def test_a_missing_transfer_is_reported():
    """A firewall may block one direction only."""
    with pytest.raises(UnfitError, match="no transfer was tried from node-2 to node-1"):
        cross_node_transfers([(A, C)], {A: "node-1", C: "node-2"})


def test_one_node_needs_no_transfer():
    """There is no other node."""
    assert 0 == cross_node_transfers([], {A: "node-1", B: "node-1"})


@pytest.mark.parametrize(("routes", "moved"), [([[A, C], [C, A]], (2, 4)), ([[A, B]], (0, 0))])
def test_the_result_counts_transfers_between_nodes(routes, moved):
    """On one node it claims no transferred bytes."""
    members = sorted({worker for route in routes for worker in route})
    proof = {"workers": 2, "threads": 2, "memory_bytes": 2, "versions": {}, "packages": {}}
    proof |= {"tasks": 2, "transfer_bytes": 4, "members": members, "routes": routes}
    output = result(proof, LOCATIONS, 2)
    assert moved == (output["transfers"], output["transfer_bytes"])
    assert {"members", "routes", "object_store"}.isdisjoint(output)


def test_the_result_has_the_object_store_that_was_proven():
    """Only a deployment with a bucket has it."""
    proof = dict.fromkeys(("workers", "threads", "memory_bytes", "versions", "packages"), 1)
    proof |= {"tasks": 1, "transfer_bytes": 4, "members": [A], "routes": []}
    store = {"bucket": "dask", "bytes": 4, "seconds": 0.5}
    assert store == result(proof | {"object_store": store}, LOCATIONS, 2)["object_store"]


@pytest.mark.parametrize(
    ("busy", "routes", "expected"),
    [([C], [], 0), ([A], [[B, C], [C, B]], 2), ([A, B, C], [], 0)],
    ids=["a whole node", "half a node", "all"],
)
def test_busy_workers_have_names_and_need_no_transfer(busy, routes, expected):
    """Their threads run tasks of users."""
    proof = dict.fromkeys(("workers", "threads", "memory_bytes", "versions", "packages"), 1)
    proof |= {"tasks": 2, "transfer_bytes": 4, "members": [A, B, C], "routes": routes}
    cell = {"workers": 2, "busy": [f"{worker} runs train for 9 s" for worker in busy]}
    proof |= {"busy": dict.fromkeys(busy, "train for 12 s"), "cell": cell}
    output = result(proof, LOCATIONS, 2)
    names = {A: "dask_worker.1 on node-1", B: "dask_worker.2 on node-1"}
    names[C] = "dask_worker.3 on node-2"
    named = [f"{names[worker]} ({worker}) runs train for" for worker in busy]
    assert [f"{name} 12 s" for name in named] == output["busy"]
    assert [f"{name} 9 s" for name in named] == output["cell"]["busy"]
    assert expected == output["transfers"]


def test_messages_have_the_tasks_of_workers():
    """An address alone means little to a reader."""
    message = name_workers(f"{A} has 1, tcp://10.0.1.99:1 has 2", LOCATIONS)
    expected = f"dask_worker.1 on node-1 ({A}) has 1, an unknown worker (tcp://10.0.1.99:1) has 2"
    assert expected == message


DOWN = [*NODES[:2], node("data-2", state="down") | {"UpdatedAt": "2026-11-20T03:10:04.5Z"}]
NO_NODE = "no suitable node (max replicas per node limit exceed on 1 node; {})"
UNAVAILABLE = NO_NODE.format("1 node not available for new tasks")


def workers(declared="hash", error=UNAVAILABLE, command="worker"):
    """Return a snapshot of workers, one on its node and one without."""
    template = {
        "ContainerSpec": {"Args": ["dask", command]},
        "Placement": {"Constraints": ["node.labels.role==data-worker"]},
    }
    spec = {"Labels": {DECLARED_HASH_LABEL: declared}, "TaskTemplate": template}
    tasks = (
        {"ServiceID": "w", "DesiredState": "running", "Status": {"State": "running"}},
        {
            "ServiceID": "w",
            "DesiredState": "running",
            "Status": {"State": "pending", "Err": error},
        },
        {"ServiceID": "w", "DesiredState": "shutdown", "Status": {"State": "running"}},
    )
    return Snapshot(services={"dask_worker": {"ID": "w", "Spec": spec}}, tasks=tasks)


def test_workers_that_wait_for_a_node_are_missing():
    """The state of the node shows since when."""
    missing = missing_workers(workers(), workers(), {"dask_worker": "hash"}, DOWN)
    assert (1, "data-2 is down, active (since 2026-11-20 03:10 UTC)") == missing


@pytest.mark.parametrize(
    ("start", "now", "nodes"),
    [
        (workers("old"), workers(), DOWN),
        (Snapshot(services={}, tasks=()), workers(), DOWN),
        (workers(), workers(error=NO_NODE.format("insufficient resources on 1 node")), DOWN),
        (workers(), workers(), NODES),
        (workers(command="scheduler"), workers(command="scheduler"), DOWN),
    ],
    ids=["updated", "new", "no room", "another node is away", "no worker"],
)
def test_other_tasks_must_come(start, now, nodes):
    """Workers that are updated, tasks that lack room, and other services."""
    assert 0 == missing_workers(now, start, {"dask_worker": "hash"}, nodes)[0]
