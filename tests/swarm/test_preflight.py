"""Problems of the Swarm are reported with a fix before anything changes."""

import re
import subprocess
import sys
from contextlib import contextmanager

import pytest
from docker import types
from docker.errors import APIError

from lab import cluster, processes
from lab.engine import connect
from lab.layout import Lab
from tests.conftest import ROOT, wait_for
from tests.swarm.conftest import RUNNERS, leftovers, wait_until_gone
from tests.swarm.derived import NOWHERE

RESERVED = "reserved"
MANAGERS = "managers"
START = f"""
from lab import engine, layout, network
lab = layout.Lab(name="{MANAGERS}")
network.ensure_network(lab)
engine.start_engines(lab.nodes)
"""


@pytest.fixture(scope="module")
def preview(new_deployment, swarm):
    """Return a function that previews a config on an empty Swarm and returns its problems."""
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
def test_all_problems_are_reported_at_once(runner, new_deployment, images, swarm):
    """One `up` with five mistakes reports five problems and leaves the Swarm unchanged."""
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


def test_a_worker_node_is_no_manager(preview, lab):
    """Its engine answers, and the message names its role and a manager."""
    (line,) = preview(dockerHost=lab.nodes[1].docker_host)
    assert "is not a Swarm manager but a worker node" in line
    assert f"such as {lab.master.address}'s" in line


@pytest.fixture(scope="module")
def managers():
    """Return a lab for these tests only, whose engines form no Swarm yet."""
    lab = Lab(name=MANAGERS)
    try:
        start_engines()
        yield lab
    finally:
        cluster.down(lab)


def start_engines():
    """Start the missing engines by another program, which they outlive."""
    subprocess.run([sys.executable, "-c", START], cwd=ROOT, check=True)


@pytest.fixture(scope="module")
def two_managers(managers):
    """Return that lab with a Swarm of two managers, locked when an engine restarts."""
    one, other = managers.nodes[:2]
    with connect(one.docker_host) as first, connect(other.docker_host) as second:
        first.init_swarm(one.address, swarm_spec=first.create_swarm_spec(autolock_managers=True))
        token = first.inspect_swarm()["JoinTokens"]["Manager"]
        second.join_swarm([f"{one.address}:2377"], token, advertise_addr=other.address)
    return managers


def test_an_engine_without_a_swarm_is_reported(preview, managers):
    """The fix is the command that creates a Swarm."""
    (line,) = preview(dockerHost=managers.docker_host)
    assert "is not a Swarm manager; its Swarm is inactive" in line
    assert line.endswith("docker swarm init")


def test_a_swarm_without_a_quorum_is_reported(preview, two_managers):
    """One of two managers is no majority."""
    lost = two_managers.nodes[1]
    processes.end(lost.cgroup)
    with connect(two_managers.docker_host) as engine:
        wait_for("lost leader", lambda: has_lost_leader(engine))
    (line,) = preview(dockerHost=two_managers.docker_host)
    assert "has no leader; too few of its managers are up" in line
    assert line.endswith("sudo systemctl start docker, on the other managers")


def has_lost_leader(engine):
    """Return whether the managers report that they have no leader."""
    try:
        engine.nodes()
    except APIError as error:
        return "does not have a leader" in str(error)
    return False


def test_a_locked_manager_is_reported(preview, two_managers):
    """Its engine was restarted without the key."""
    one = two_managers.nodes[0]
    processes.end(one.cgroup)
    start_engines()
    (line,) = preview(dockerHost=one.docker_host)
    assert "its Swarm is locked" in line
    assert line.endswith("docker swarm unlock")


def test_a_missing_engine_is_reported(preview):
    """The fix is the command that shows the same error, or the address of a manager elsewhere."""
    (line,) = preview(dockerHost="unix:///nowhere/docker.sock")
    assert "dockerHost: 'unix:///nowhere/docker.sock' does not answer" in line
    assert "docker --host unix:///nowhere/docker.sock info, or " in line
    assert line.endswith("pulumi config set dockerHost ssh://<user>@<manager>")


def test_impossible_memory_is_explained(preview):
    """The message says how much memory each node has, and what would fit."""
    (line,) = preview(workerMemory="1TiB")
    assert "each reserves 0.5 CPU and 1024GiB" in line
    assert "lab-data-1 has 2 CPU" in line
    assert "pulumi config set workerMemory" in line


def test_another_platform_is_reported(preview):
    """All nodes and images of the lab have another platform."""
    lines = preview(platform="linux/arm64")
    keys = {line.split()[1] for line in lines}
    assert {"platform:", "image:", "notebookImage:"} == keys


def test_an_image_for_one_platform_is_no_image_for_two(preview):
    """The nodes are no problem."""
    lines = preview(platform="linux/amd64,linux/arm64")
    assert ["image:", "notebookImage:"] == [line.split()[1] for line in lines]
    assert all("is made for linux/amd64\n" in line for line in lines)
    assert all("fix: pulumi config set platform linux/amd64, or docker" in line for line in lines)


def test_a_network_of_the_manager_alone_is_no_overlay(preview, swarm):
    """Caddy on another node could not reach it."""
    network = swarm.networks.create("local-only", driver="bridge")
    try:
        (line,) = preview(caddyNetwork=network.name)
    finally:
        network.remove()
    assert "only the manager has a bridge network of that name" in line


def node_of(swarm, hostname):
    """Return the node with a host name."""
    nodes = swarm.nodes.list()
    (node,) = [node for node in nodes if node.attrs["Description"]["Hostname"] == hostname]
    return node


@contextmanager
def drained(node):
    """Drain a node, so that it runs no tasks."""
    node.update(node.attrs["Spec"] | {"Availability": "drain"})
    try:
        yield
    finally:
        node.reload()
        node.update(node.attrs["Spec"] | {"Availability": "active"})


def test_a_drained_node_is_reported(preview, swarm):
    """The fix is the command that activates it."""
    with drained(node_of(swarm, "lab-data-2")):
        (line,) = preview()
    assert "lab-data-2 is ready, drain" in line
    assert line.endswith("docker node update --availability active lab-data-2")


@contextmanager
def reserving(swarm, images, left):
    """Run another service, which leaves so many bytes of a data node's memory."""
    memory = node_of(swarm, "lab-data-1").attrs["Description"]["Resources"]["MemoryBytes"]
    service = swarm.services.create(
        images["image"], args=["sleep", "900"], name=RESERVED, stop_grace_period=0,
        constraints=["node.hostname==lab-data-1"],
        resources=types.Resources(mem_reservation=memory - left),
    )  # fmt: skip
    try:
        wait_for("placed task", lambda: any(task.get("NodeID") for task in service.tasks()))
        yield service
    finally:
        service.remove()


@pytest.fixture
def reserved(swarm, images):
    """Run another service, which reserves most of a data node's memory."""
    with reserving(swarm, images, 3 * 2**29) as service:
        yield service


def test_memory_reserved_by_others_is_not_free(preview, reserved):
    """The node has room for one worker less."""
    (line,) = preview()
    assert "lab-data-1 has 2 CPU and 1.5GiB unreserved" in line
    assert "expected: at most 3 of this size" in line
