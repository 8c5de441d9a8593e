"""Scaling down and rolling updates under a computation, and a scheduler that is replaced."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import docker
import pytest

from tests.swarm.conftest import RUNNERS, wait_until_gone

BLOCKS = 16
TASKS = 100
# Computes for as long as the update takes, and tells what became of it when it is told to.
COMPUTATION = f"""
import json, os, pathlib, time
from dask.distributed import Client, get_worker

def work(number):
    time.sleep(0.5)
    get_worker().log_event("runs", number)
    return number

with Client("scheduler:8786", timeout="30s") as client:
    client.wait_for_workers(4, timeout=30)
    blocks = client.scatter([os.urandom(2**20) for _ in range({BLOCKS})], hash=False)
    on = {{who for owners in client.who_has(blocks).values() for who in owners}}
    tasks = client.map(work, range({TASKS}), pure=False)
    pathlib.Path("/tmp/computing").touch()
    while not pathlib.Path("/tmp/updated").exists():
        time.sleep(0.2)
    results = client.gather(tasks)
    kept = sum(len(owners) > 0 for owners in client.who_has(blocks).values())
    found = len(set(client.gather(blocks))) if kept == {BLOCKS} else kept
    print(json.dumps({{"spread over": len(on), "blocks": found, "results": sum(results),
                       "runs": len(client.get_events("runs"))}}))
"""
BEGUN = "until [ -e /tmp/computing ]; do sleep 0.2; done"


@pytest.fixture(scope="module", params=RUNNERS)
def cluster(request, new_deployment, swarm):
    """Return a deployed cluster, which is destroyed afterwards."""
    assert not wait_until_gone(swarm)
    deployment = new_deployment(request.param)
    try:
        deployment.run("up")
        yield deployment
    finally:
        deployment.run("destroy")


@pytest.fixture
def notebook(cluster, lab):
    """Return a function that runs a command in the notebook's container."""
    with closing(docker.DockerClient(lab.docker_host)) as engine:
        wanted = {"label": "com.docker.swarm.service.name=dask_notebook"}
        (container,) = engine.containers.list(filters=wanted)

        def run(*command):
            status, output = container.exec_run(["timeout", "240", *command])
            assert 0 == status, output.decode()
            return output.decode()

        yield run


def workers(swarm):
    """Return the ids of the tasks that are to run."""
    (service,) = swarm.services.list(filters={"name": "dask_worker"})
    return {task["ID"] for task in service.tasks(filters={"desired-state": "running"})}


def test_fewer_and_other_workers_lose_no_work(cluster, swarm, notebook, defaults_for_lab):
    """From 4 workers to 2 with other limits: all of it is there and nothing ran twice."""
    before = workers(swarm)
    with ThreadPoolExecutor() as pool:
        computation = pool.submit(notebook, "python", "-c", COMPUTATION)
        notebook("bash", "-c", BEGUN)
        cluster.configure(**defaults_for_lab, workers=2, workerMemory="896MiB")
        try:
            cluster.run("up")
        finally:
            notebook("touch", "/tmp/updated")
        found = json.loads(computation.result().splitlines()[-1])
    expected = {"spread over": 4, "blocks": BLOCKS, "results": sum(range(TASKS)), "runs": TASKS}
    assert expected == found
    assert 2 == len(workers(swarm))
    assert not before & workers(swarm)


def test_workers_join_a_new_scheduler_without_being_replaced(
    cluster, swarm, notebook, defaults_for_lab
):
    """The cluster is proven again by the same containers."""
    before = workers(swarm)
    cluster.configure(
        **defaults_for_lab, workers=2, workerMemory="896MiB", schedulerMemory="1.5GiB"
    )
    cluster.run("up")
    assert 2 == cluster.runner.outputs()["health"]["workers"]
    assert before == workers(swarm)
