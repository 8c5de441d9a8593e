"""A destroy leaves nothing behind, even during a computation or without a node."""

import contextlib
import re
import subprocess
import sys
from contextlib import closing

import docker
import pytest

from lab import processes
from tests.conftest import ROOT, wait_for
from tests.swarm.conftest import RUNNERS, cluster_services, wait_until_gone
from tests.swarm.containers import notebook_container, run_in

# Every worker holds data and is busy for longer than the test.
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
    """Return a small deployment that the tests of this module destroy and deploy again."""
    with deployed(request.param, control_host, workers=2, workersPerNode=1) as deployment:
        yield deployment


def in_notebook(lab, *command):
    """Run a command in the notebook's container and return its output."""
    with notebook_container(lab) as container:
        return run_in(container, *command)


def state_of(swarm, hostname):
    """Return the state of a node in the Swarm."""
    nodes = {node.attrs["Description"]["Hostname"]: node for node in swarm.nodes.list()}
    return nodes[hostname].attrs["Status"]["State"]


@contextlib.contextmanager
def without_engine(node, swarm):
    """Stop the engine of a node and its containers, and start it again."""
    processes.end(node.cgroup)
    try:
        wait_for("lost node", lambda: state_of(swarm, node.hostname) == "down")
        yield
    finally:
        subprocess.run([sys.executable, "-m", "lab", "up"], cwd=ROOT, check=True)
        wait_for("node that is back", lambda: state_of(swarm, node.hostname) == "ready")


def containers(node):
    """Return the names of the containers on a node."""
    with closing(docker.DockerClient(node.docker_host)) as engine:
        return [container.name for container in engine.containers.list()]


def volumes_without_name(lab):
    """Return the volumes of all nodes that belong to a container."""
    volumes = []
    for node in lab.nodes:
        with closing(docker.DockerClient(node.docker_host)) as engine:
            volumes += [volume.name for volume in engine.volumes.list()]
    return [name for name in volumes if re.fullmatch("[0-9a-f]{64}", name)]


def test_the_notebooks_files_survive_an_update(deployment, lab):
    """The home is a volume that the user can write to, and the next task has it too."""
    (home,) = in_notebook(lab, "sh", "-c", "pwd; date >work.ipynb").split()
    assert "/home/jovyan" == home
    deployment.configure(workers=2, workersPerNode=1, notebookMemory="1GiB")
    deployment.run("up")
    assert in_notebook(lab, "cat", f"{home}/work.ipynb")


def test_destroy_during_a_computation_leaves_nothing_also_when_repeated(deployment, swarm, lab):
    """All services, networks, configs, secrets and tasks are gone at once; the home stays."""
    in_notebook(lab, "python", "-c", COMPUTE)
    deployment.run("destroy")
    assert not wait_until_gone(swarm, seconds=0)
    assert not [name for node in lab.nodes for name in containers(node)]
    with closing(docker.DockerClient(lab.docker_host)) as engine:
        assert engine.volumes.get("dask-notebook")
    wait_for("removal of the containers' volumes", lambda: not volumes_without_name(lab))
    deployment.run("destroy")


def test_destroy_completes_an_interrupted_one_with_a_node_down(deployment, swarm, lab):
    """Destroy does not wait for tasks on the lost node, which end when the node is back."""
    deployment.run("up")
    assert in_notebook(lab, "cat", "/home/jovyan/work.ipynb")
    node = lab.nodes[2]
    with without_engine(node, swarm):
        # The state after an interrupted destroy.
        for service in cluster_services(swarm):
            service.scale(0)
        swarm.services.get("dask_scheduler").remove()
        deployment.run("destroy")
        assert not wait_until_gone(swarm)
    wait_for("end of the tasks on the node", lambda: not containers(node))
