"""What the Swarm cannot run is reported before anything on it changes, each with a fix."""

import re
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from docker import types
from docker.errors import APIError

from lab import cluster, processes
from lab.engine import connect
from lab.layout import Lab
from tests.conftest import ROOT
from tests.swarm.conftest import RUNNERS, leftovers, wait_for, wait_until_gone
from tests.swarm.derived import NOWHERE

RESERVED = "reserved"
PLACED_SECONDS = 30
MANAGERS = "managers"
START = f"""
from lab import engine, layout, network
apart = layout.Lab(name="{MANAGERS}")
network.raise_network(apart)
engine.start_engines(apart.nodes)
"""


@pytest.fixture(scope="module")
def preview(new_deployment, swarm):
    """Return a function that previews a config on an empty Swarm and returns the problems."""
    assert not wait_until_gone(swarm)
    deployment = new_deployment("rehearsal")

    def fail(**config):
        deployment.configure(**config)
        printed = deployment.fail("preview")
        assert "Nothing was changed." in printed
        assert "Traceback" not in printed
        return re.findall(r"^  - .+\n +expected: .+\n +fix: .+$", printed, re.MULTILINE)

    yield fail
    assert not leftovers(swarm)


@pytest.mark.parametrize("runner", RUNNERS)
def test_everything_is_told_at_once_and_nothing_touched(runner, new_deployment, images, swarm):
    """Five mistakes, one `up`, five problems; the Swarm is as it was."""
    deployment = new_deployment(runner)
    image = f"{images['image']}@{NOWHERE}"
    notebook = images["notebookImage"].rpartition(":")[0] + ":no-such-tag"
    config = {"workers": 5, "image": image, "notebookImage": notebook}
    config |= {"caddyNetwork": "no-such-network", "controlPlacement": "node.labels.role==boss"}
    deployment.configure(**config)
    printed = deployment.fail("up")
    assert "workers: 5 workers have no room" in printed
    assert "pulumi config set workersPerNode 3" in printed
    assert f"image: '{image}' is not in its registry" in printed
    assert f"notebookImage: '{notebook}' cannot be resolved to a digest" in printed
    assert "docker network create --driver overlay no-such-network" in printed
    assert "no node carries label role=boss" in printed
    assert "docker node update --label-add role=boss <node>" in printed
    assert not leftovers(swarm)


def test_a_worker_node_is_not_taken_for_a_manager(preview, lab):
    """Its engine answers; the message says what it is and where a manager is."""
    (line,) = preview(dockerHost=lab.nodes[1].docker_host)
    assert "is not a Swarm manager but a worker node" in line
    assert f"such as {lab.master.address}'s" in line


@pytest.fixture(scope="module")
def managers():
    """Return a lab that only these tests have, of engines that are no Swarm yet."""
    apart = Lab(name=MANAGERS)
    try:
        start_what_is_not_there()
        yield apart
    finally:
        cluster.down(apart)


def start_what_is_not_there():
    """In a program of its own, which engines outlive."""
    subprocess.run([sys.executable, "-c", START], cwd=ROOT, check=True)


@pytest.fixture(scope="module")
def two_managers(managers):
    """Return the same with a Swarm of two managers, which is locked when an engine starts anew."""
    one, other = managers.nodes[:2]
    with connect(one.docker_host) as first, connect(other.docker_host) as second:
        first.init_swarm(one.address, swarm_spec=first.create_swarm_spec(autolock_managers=True))
        token = first.inspect_swarm()["JoinTokens"]["Manager"]
        second.join_swarm([f"{one.address}:2377"], token, advertise_addr=other.address)
    return managers


def test_an_engine_without_a_swarm_is_told_how_to_begin_one(preview, managers):
    """It has none yet."""
    (line,) = preview(dockerHost=managers.docker_host)
    assert "is not a Swarm manager; its Swarm is inactive" in line
    assert line.endswith("docker swarm init")


def test_a_swarm_without_its_quorum_is_named(preview, two_managers):
    """One of two managers is not more than half."""
    away = two_managers.nodes[1]
    processes.end(away.cgroup)
    with connect(two_managers.docker_host) as engine:
        wait_for(lambda: lost_its_leader(engine))
    (line,) = preview(dockerHost=two_managers.docker_host)
    assert "has no leader; too few of its managers are up" in line
    assert line.endswith("sudo systemctl start docker, on the other managers")


def lost_its_leader(engine):
    """Return whether the managers know that they cannot decide anything."""
    try:
        engine.nodes()
    except APIError as error:
        return "does not have a leader" in str(error)
    return False


def test_a_locked_manager_is_named(preview, two_managers):
    """Its engine was started anew, and nobody has given it the key."""
    one = two_managers.nodes[0]
    processes.end(one.cgroup)
    start_what_is_not_there()
    (line,) = preview(dockerHost=one.docker_host)
    assert "its Swarm is locked" in line
    assert line.endswith("docker swarm unlock")


def test_an_engine_that_is_not_there_is_named(preview):
    """With the command that shows the same."""
    (line,) = preview(dockerHost="unix:///nowhere/docker.sock")
    assert "dockerHost: 'unix:///nowhere/docker.sock' does not answer" in line
    assert line.endswith("docker --host unix:///nowhere/docker.sock info")


def test_impossible_memory_is_explained(preview):
    """More than any node has: the message says what each has, and what would fit."""
    (line,) = preview(workerMemory="1TiB")
    assert "each reserves 0.5 CPU and 1024GiB" in line
    assert "lab-data-1 has 2 CPU" in line
    assert "pulumi config set workerMemory" in line


def test_what_the_lab_is_not_made_for_is_told(preview):
    """Nodes and images are of one platform, and it is not this one."""
    lines = preview(platform="linux/arm64")
    keys = {line.split()[1] for line in lines}
    assert {"platform:", "image:", "notebookImage:"} == keys


def test_a_network_of_the_manager_alone_is_no_overlay(preview):
    """Every engine has a network of that name."""
    (line,) = preview(caddyNetwork="bridge")
    assert "only the manager has a bridge network of that name" in line


@contextmanager
def drained(node):
    """Let a node take no tasks."""
    node.update(node.attrs["Spec"] | {"Availability": "drain"})
    try:
        yield
    finally:
        node.reload()
        node.update(node.attrs["Spec"] | {"Availability": "active"})


def test_a_node_that_takes_nothing_is_named(preview, swarm):
    """With the command that brings it back."""
    nodes = {each.attrs["Description"]["Hostname"]: each for each in swarm.nodes.list()}
    with drained(nodes["lab-data-2"]):
        (line,) = preview()
    assert "lab-data-2 is ready, drain" in line
    assert line.endswith("docker node update --availability active lab-data-2")


@pytest.fixture
def reserved(swarm, images):
    """Run somebody else's service, which has reserved most of a data node's memory."""
    nodes = {each.attrs["Description"]["Hostname"]: each.attrs for each in swarm.nodes.list()}
    memory = nodes["lab-data-1"]["Description"]["Resources"]["MemoryBytes"]
    service = swarm.services.create(
        images["image"], args=["sleep", "600"], name=RESERVED, stop_grace_period=0,
        constraints=["node.hostname==lab-data-1"],
        resources=types.Resources(mem_reservation=memory - 3 * 2**29),
    )  # fmt: skip
    try:
        deadline = time.monotonic() + PLACED_SECONDS
        while not any(task.get("NodeID") for task in service.tasks()):
            assert time.monotonic() < deadline, f"not placed within {PLACED_SECONDS} s"
            time.sleep(0.1)
        yield service
    finally:
        service.remove()


def test_what_others_have_reserved_is_not_free(preview, reserved):
    """The room for two workers is half gone."""
    (line,) = preview()
    assert "lab-data-1 has 2 CPU and 1.5GiB unreserved" in line
    assert "expected: at most 3 of this size" in line
