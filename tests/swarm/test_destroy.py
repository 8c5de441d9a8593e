"""The end leaves nothing, whatever is going on."""

import contextlib
import subprocess
import sys
import time
from contextlib import closing

import docker
import pytest

from lab import processes
from tests.conftest import ROOT
from tests.swarm.conftest import RUNNERS, cluster_services, wait_until_gone

DOWN_SECONDS = 60
# Every worker is busy and has more to do than anybody waits for, and holds data.
COMPUTE = """
import time
from dask.distributed import Client, fire_and_forget
client = Client("scheduler:8786", timeout="30s")
client.scatter([bytes(10_000_000) for _ in range(8)])
fire_and_forget(client.map(lambda _: time.sleep(0.5), range(2000)))
deadline = time.monotonic() + 30
while not all(client.processing().values()):
    assert time.monotonic() < deadline, "workers are not busy after 30 s"
    time.sleep(0.1)
"""


@pytest.fixture(scope="module", params=RUNNERS)
def deployment(request, deployed, control_host):
    """Return a small deployment that the tests of this module take down and put up again."""
    with deployed(request.param, control_host, workers=2, workersPerNode=1) as made:
        yield made


def in_notebook(lab, *command):
    """Run a command in the notebook's container and return what it printed."""
    with closing(docker.DockerClient(lab.docker_host)) as engine:
        wanted = {"label": "com.docker.swarm.service.name=dask_notebook"}
        (container,) = engine.containers.list(filters=wanted)
        status, output = container.exec_run([*command])
        assert 0 == status, output.decode()
        return output.decode()


def state_of(swarm, node):
    """Return what the Swarm believes about a node."""
    (found,) = [
        each for each in swarm.nodes.list() if each.attrs["Description"]["Hostname"] == node
    ]
    return found.attrs["Status"]["State"]


@contextlib.contextmanager
def without_engine(node, swarm):
    """Stop the engine of a node with all that runs on it, and bring it back."""
    processes.end(node.cgroup)
    try:
        wait_until(lambda: state_of(swarm, node.hostname) == "down", "the node to be down")
        yield
    finally:
        subprocess.run([sys.executable, "-m", "lab", "up"], cwd=ROOT, check=True)
        wait_until(lambda: state_of(swarm, node.hostname) == "ready", "the node to be back")


def wait_until(met, what):
    deadline = time.monotonic() + DOWN_SECONDS
    while not met():
        assert time.monotonic() < deadline, f"waited {DOWN_SECONDS} s for {what}"
        time.sleep(0.5)


def containers(node):
    """Return the names of the containers that a node still has."""
    with closing(docker.DockerClient(node.docker_host)) as engine:
        return [each.name for each in engine.containers.list()]


def test_the_notebooks_work_survives_an_update(deployment, lab):
    """The home is a volume of the node: its user may write to it, the next task finds it."""
    (home,) = in_notebook(lab, "sh", "-c", "pwd; date >work.ipynb").split()
    assert "/home/jovyan" == home
    deployment.configure(workers=2, workersPerNode=1, notebookMemory="1GiB")
    deployment.run("up")
    assert in_notebook(lab, "cat", f"{home}/work.ipynb")


def test_destroy_leaves_nothing_while_a_computation_runs_and_twice(deployment, swarm, lab):
    """No service, network, config, secret or task is left, at once; the work in the home is."""
    in_notebook(lab, "python", "-c", COMPUTE)
    deployment.run("destroy")
    assert not wait_until_gone(swarm, seconds=0)
    assert not [name for node in lab.nodes for name in containers(node)]
    with closing(docker.DockerClient(lab.docker_host)) as engine:
        assert engine.volumes.get("dask-notebook")
    deployment.run("destroy")


def test_destroy_leaves_nothing_half_way_and_with_a_node_down(deployment, swarm, lab):
    """Tasks that cannot report their end are not waited for: they end when their node is back."""
    deployment.run("up")
    assert in_notebook(lab, "cat", "/home/jovyan/work.ipynb")
    node = lab.nodes[2]
    with without_engine(node, swarm):
        # As an interrupted destroy leaves it.
        for service in cluster_services(swarm):
            service.scale(0)
        swarm.services.get("dask_scheduler").remove()
        deployment.run("destroy")
        assert not wait_until_gone(swarm)
    wait_until(lambda: not containers(node), "the node to end what was destroyed meanwhile")
