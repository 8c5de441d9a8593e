"""Scaling down and rolling updates under a computation, and a scheduler that is replaced."""

import pytest

from bench.under_computation import under_computation
from tests.swarm.conftest import RUNNERS


@pytest.fixture(scope="module", params=RUNNERS)
def cluster(request, deployed, control_host):
    """Return a deployed cluster, which is destroyed afterwards."""
    with deployed(request.param, control_host) as deployment:
        yield deployment


def workers(swarm):
    """Return the ids of the tasks that are to run."""
    (service,) = swarm.services.list(filters={"name": "dask_worker"})
    return {task["ID"] for task in service.tasks(filters={"desired-state": "running"})}


def test_fewer_and_other_workers_lose_no_work(cluster, swarm, lab):
    """From 4 workers to 2 with other limits: all of it is there and nothing ran twice."""
    before = workers(swarm)
    cluster.configure(workers=2, workerMemory="896MiB")
    found = under_computation(lab.docker_host, 4, 16, 16, lambda: cluster.run("up"))
    assert found["right"]
    assert (4, 0, 0) == tuple(found[key] for key in ("workers", "lost_blocks", "repeated_tasks"))
    assert 2 == len(workers(swarm))
    assert not before & workers(swarm)


def test_workers_join_a_new_scheduler_without_being_replaced(cluster, swarm):
    """The cluster is proven again by the same containers."""
    before = workers(swarm)
    cluster.configure(workers=2, workerMemory="896MiB", schedulerMemory="1.5GiB")
    cluster.run("up")
    assert 2 == cluster.runner.outputs()["health"]["workers"]
    assert before == workers(swarm)
