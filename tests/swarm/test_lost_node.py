"""A data node that is down or drained, beside workers that overcommit the other node."""

from contextlib import contextmanager

import pytest

from lab import processes
from tests.conftest import wait_for
from tests.swarm.conftest import RUNNERS, lab_command, service_of
from tests.swarm.expiry import make_due, mounted_secret
from tests.swarm.test_preflight import drained, node_of, reserving
from tools.runners import PulumiRunner

OVERCOMMITTED = {
    "workerReservedCpus": "0.1",
    "workerReservedMemory": "128MiB",
    "healthDeadline": 300,
    "proof": "quick",
}


@pytest.fixture(scope="module")
def neighbour(swarm, images):
    """Run another service, which leaves half a GiB of a data node."""
    with reserving(swarm, images, 2**29) as service:
        yield service


@pytest.fixture(scope="module", params=RUNNERS)
def stack(request, deployed, neighbour):
    """Return a deployed cluster, which is destroyed afterwards."""
    with deployed(request.param, **OVERCOMMITTED) as deployment:
        yield deployment


@contextmanager
def stopped(node, lab):
    """End a node's engine and containers until Swarm knows it, and start them again."""
    hostname = node.attrs["Description"]["Hostname"]
    (machine,) = [machine for machine in lab.nodes if machine.hostname == hostname]
    processes.end(machine.cgroup)
    try:
        wait_for("down node", lambda: state_of(node) == "down")
        yield
    finally:
        lab_command("up", lab)
        wait_for("ready node", lambda: state_of(node) == "ready")


def state_of(node):
    """Return the state of a node, as Swarm knows it now."""
    node.reload()
    return node.attrs["Status"]["State"]


def waiting(swarm):
    """Return the number of workers that wait for a node."""
    tasks = service_of(swarm, "dask_worker").tasks({"desired-state": "running"})
    return sum(task["Status"]["State"] == "pending" for task in tasks)


def test_four_workers_fit_where_little_is_left(stack):
    """Their limits are proven: 4 workers, 4 threads, 4 GiB."""
    health = stack.runner.outputs()["health"]
    assert (4, 4, 4 * 2**30) == (health["workers"], health["threads"], health["memory_bytes"])
    assert {"lab-data-1": 2, "lab-data-2": 2} == health["nodes"]


def test_only_the_workers_need_a_node_that_is_away(stack, swarm, lab):
    """Other services are updated and proven with the other node's workers; the output shows it.

    A certificate of the workers that ends soon is not renewed.
    """
    node, certificate = node_of(swarm, "lab-data-2"), mounted_secret(swarm, "dask_worker")
    is_engine = isinstance(stack.runner, PulumiRunner)
    with stopped(node, lab) if is_engine else drained(node):
        wait_for("workers without a node", lambda: waiting(swarm) == 2)
        make_due(stack.runner, days=60)
        stack.configure(**OVERCOMMITTED, notebookMemory="1536MiB")
        printed = stack.run("up")
        assert certificate == mounted_secret(swarm, "dask_worker")
        assert "workers: 2 of 4 workers fit now" in printed
        assert "lab-data-2 is " in printed
        health = stack.runner.outputs()["health"]
        assert (2, 2, 2 * 2**30) == (health["workers"], health["threads"], health["memory_bytes"])
        assert health["missing"].startswith("2 of 4 workers run; lab-data-2 is ")
        no_changes = ["--refresh", "--expect-no-changes"] if is_engine else []
        assert "2 of 4 workers fit now" in stack.run("preview", *no_changes)
        refuse_changes_of_workers(stack)


def refuse_changes_of_workers(stack):
    """Try changes of the workers' number, and of what only Swarm's spec shows."""
    stack.configure(**OVERCOMMITTED, notebookMemory="1536MiB", workers=3)
    printed = stack.fail("up")
    assert "Nothing was changed." in printed
    assert "2 of 3 workers fit now" in printed
    assert "expected: at most 2 of this size" in printed
    stack.configure(**OVERCOMMITTED, notebookMemory="1536MiB", workerThreads=2)
    printed = stack.fail("up")
    assert "dask_worker: not updated, because some of its tasks wait for a node" in printed
    assert "Traceback" not in printed


def test_all_workers_are_proven_when_the_node_is_back(stack, swarm):
    """The next `up` renews their certificate, and proves them without a change of the config."""
    certificate = mounted_secret(swarm, "dask_worker")
    stack.configure(**OVERCOMMITTED, notebookMemory="1536MiB")
    wait_for("placed workers", lambda: waiting(swarm) == 0)
    stack.run("up")
    health = stack.runner.outputs()["health"]
    assert 4 == health["workers"]
    assert "missing" not in health
    assert certificate != mounted_secret(swarm, "dask_worker")
