"""A real cluster fails its proof in every way: the message says what to do."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import docker
import pytest

from tests.conftest import ROOT, wait_for
from tests.swarm.conftest import probe_request, probe_services
from tests.swarm.containers import containers_of
from tests.swarm.derived import with_other_version

DEADLINE = 45


@pytest.fixture(scope="module")
def deployment(deployed):
    """Return a healthy deployment that the tests of this module damage and repair."""
    with deployed("rehearsal") as deployment:
        yield deployment


@pytest.fixture
def request_text(deployment):
    """Return the request of the deployment's probe, with a deadline for tests."""
    return json.dumps(probe_request() | {"deadline_seconds": DEADLINE})


def start_probe(lab):
    """Start the probe like the program's Command."""
    return subprocess.Popen(
        [sys.executable, "-m", "health"],
        cwd=ROOT,
        env=os.environ | {"DOCKER_HOST": lab.docker_host},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def failure_of(lab, request_text):
    """Run the probe, which must fail in time, and return its message."""
    start = time.monotonic()
    with start_probe(lab) as probe:
        out, err = probe.communicate(request_text, timeout=DEADLINE + 30)
    assert 1 == probe.returncode, out + err
    assert "" == out
    assert time.monotonic() - start < DEADLINE + 15
    return err


def count_running(swarm, name):
    """Return the number of running tasks of a service."""
    (service,) = swarm.services.list(filters={"name": name})
    tasks = service.tasks(filters={"desired-state": "running"})
    return sum(task["Status"]["State"] == "running" for task in tasks)


@contextlib.contextmanager
def without_label(swarm, label):
    """Remove a label from all nodes, and restore it on the nodes that had it."""
    labelled = [
        node for node in swarm.nodes.list() if node.attrs["Spec"]["Labels"].get("role") == label
    ]
    for node in labelled:
        node.update(node.attrs["Spec"] | {"Labels": {}})
    try:
        yield
    finally:
        for node in labelled:
            node.reload()
            node.update(node.attrs["Spec"] | {"Labels": {"role": label}})


def test_a_missing_label_is_reported_with_its_fix(deployment, lab, swarm, request_text):
    """Without data nodes the message says which label is missing and how to set it."""
    try:
        with without_label(swarm, "data-worker"):
            wait_for("end of the workers", lambda: count_running(swarm, "dask_worker") == 0)
            message = failure_of(lab, request_text)
    finally:
        wait_for("four workers", lambda: count_running(swarm, "dask_worker") == 4)
    assert "no node carries label role=data-worker" in message
    assert "docker node update --label-add role=data-worker <node>" in message
    assert "0 of 4 tasks work" in message


@contextlib.contextmanager
def dropping(node, *match):
    """Drop the packets of the overlay that reach a node and match."""
    rule = ["INPUT", "-p", "udp", "--dport", "4789", *match, "-j", "DROP"]
    inside = ["nsenter", f"--net={node.namespace}", "iptables"]
    subprocess.run([*inside, "-I", *rule], check=True)
    try:
        yield
    finally:
        subprocess.run([*inside, "-D", *rule], check=True)


def test_a_worker_that_cannot_reach_its_peers_is_reported(deployment, lab, request_text):
    """If only small packets pass, the message names the nodes and the MTU."""
    one, other = lab.nodes[1:]
    with dropping(one, "-s", other.address, "-m", "length", "--length", "1000:"):
        message = failure_of(lab, request_text)
    assert "MTU" in message
    assert "lab-data-1" in message
    assert "lab-data-2" in message


def test_a_node_without_the_overlays_port_is_reported(deployment, lab, swarm, request_text):
    """Its workers run, but nothing of the overlay reaches them."""
    node = lab.nodes[2]
    with dropping(node), contextlib.closing(docker.DockerClient(node.docker_host)) as engine:
        for container in containers_of(engine, "dask_worker"):
            container.kill()
        wait_for("four workers", lambda: count_running(swarm, "dask_worker") == 4)
        message = failure_of(lab, request_text)
    assert "running on lab-data-2, but the scheduler does not know its worker" in message
    assert "cause: the scheduler knows no worker of lab-data-2: the network" in message
    assert "fix:   open 4789/udp, and 7946 tcp and udp, between lab-data-2 and" in message
    assert "tx-checksum-ip-generic off, on lab-data-2" in message


def test_another_version_is_reported_with_its_place(deployment, lab, request_text):
    """The message names the client whose distributed has another version."""
    request = json.loads(request_text)
    image = with_other_version(lab.docker_host, request["image"])
    message = failure_of(lab, json.dumps(request | {"image": image}))
    assert "expected one version of distributed everywhere" in message
    assert "9999.1+2026.8.0 in the notebook's image" in message


def test_a_missing_worker_is_reported(deployment, lab, swarm, request_text):
    """A cluster with fewer workers than configured is not proven."""
    request = json.loads(request_text)
    expected = request["expected"] | {"workers": 5, "threads": 5, "memory_bytes": 5 * 2**30}
    message = failure_of(lab, json.dumps(request | {"expected": expected}))
    assert "4 of 5 workers" in message


def test_too_many_workers_on_a_node_are_reported(deployment, lab, request_text):
    """Two workers on a node fail the proof if at most one is allowed."""
    request = json.loads(request_text)
    expected = request["expected"] | {"workers_per_node": 1}
    message = failure_of(lab, json.dumps(request | {"expected": expected}))
    assert "lab-data-1" in message
    assert "at most 1" in message


def test_a_missing_package_is_reported(deployment, lab, request_text):
    """The message names a package that the workers do not have."""
    request = json.loads(request_text)
    message = failure_of(lab, json.dumps(request | {"packages": ["s3fs", "no-such-package"]}))
    assert "no-such-package" in message


def test_a_service_that_never_appears_is_reported(deployment, lab, request_text):
    """The probe waits for a spec that is never deployed, until its deadline."""
    request = json.loads(request_text)
    services = request["services"] | {"dask_worker": "0" * 16}
    message = failure_of(lab, json.dumps(request | {"services": services}))
    assert "dask_worker" in message


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_probe_leaves_nothing(deployment, lab, swarm, request_text, number):
    """However the probe ends, its service is removed soon after."""
    request = json.loads(request_text)
    expected = request["expected"] | {"workers": 5}
    with start_probe(lab) as probe:
        probe.stdin.write(json.dumps(request | {"expected": expected}))
        probe.stdin.close()
        wait_for("service of the probe", lambda: probe_services(swarm), 20)
        probe.send_signal(number)
        assert 0 != probe.wait(timeout=30)
    wait_for("removal of the probe", lambda: not probe_services(swarm), 20)
