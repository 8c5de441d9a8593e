"""Scale-down, rolling updates and a new scheduler during a computation."""

import pytest

from bench.under_computation import under_computation
from tests.swarm.conftest import RUNNERS


@pytest.fixture(scope="module", params=RUNNERS)
def cluster(request, deployed, control_host):
    """Return a deployed cluster, which is destroyed afterwards."""
    with deployed(request.param, control_host) as deployment:
        yield deployment


def worker_tasks(swarm):
    """Return the ids of the workers' tasks."""
    (service,) = swarm.services.list(filters={"name": "dask_worker"})
    return {task["ID"] for task in service.tasks(filters={"desired-state": "running"})}


def test_fewer_and_other_workers_lose_no_work(cluster, swarm, lab):
    """From 4 workers to 2 with other limits no data is lost and no task runs twice."""
    before = worker_tasks(swarm)
    cluster.configure(workers=2, workerMemory="896MiB")
    losses = under_computation(lab.docker_host, 4, 16, 16, lambda: cluster.run("up"))
    assert losses["right"]
    assert (4, 0, 0) == tuple(losses[key] for key in ("workers", "lost_blocks", "repeated_tasks"))
    assert 2 == len(worker_tasks(swarm))
    assert not before & worker_tasks(swarm)


def test_workers_join_a_new_scheduler_without_being_replaced(cluster, swarm):
    """The cluster is proven again with the same containers."""
    before = worker_tasks(swarm)
    cluster.configure(workers=2, workerMemory="896MiB", schedulerMemory="1.5GiB")
    cluster.run("up")
    assert 2 == cluster.runner.outputs()["health"]["workers"]
    assert before == worker_tasks(swarm)
