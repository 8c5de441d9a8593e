"""The manager behind SSH: the control host has its key and nothing else.

The suites for updates, computations, drift and destroy deploy from the same control host.
"""

import json
import os
import subprocess
import sys

import pytest

from lab import sshd
from tests.conftest import ROOT, wait_for
from tests.swarm.conftest import (
    RUNNERS,
    cluster_services,
    probe_request,
    probe_services,
    wait_until_gone,
)

BURST = """
import sys, threading
from swarm.client import connect
address, count = sys.argv[1], int(sys.argv[2])
together, answers = threading.Barrier(count), []
def ask():
    together.wait()
    with connect(address, seconds=60) as manager:
        answers.append(len(manager.nodes()))
        together.wait()
threads = [threading.Thread(target=ask) for _ in range(count)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(answers)
"""


def test_many_connections_at_once_all_succeed(control_host):
    """A refresh reads all resources at once, more than sshd allows in one login."""
    count = 32
    call = control_host.command(sys.executable, "-c", BURST, control_host.address, str(count))
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False)
    assert f"{[3] * count}\n" == done.stdout, done.stderr
    assert count > control_host.logins()


@pytest.mark.parametrize("address", ["ssh://{alias}", "ssh://{user}@{alias}", "ssh://[fd00::77]"])
def test_a_host_is_called_as_in_the_users_ssh_config(control_host, address):
    """A name with an underscore, a domain's account, an IPv6 address."""
    host = address.format(alias=sshd.ALIAS, user=sshd.USER)
    call = control_host.command(sys.executable, "-c", BURST, host, "1")
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False)
    assert "[3]\n" == done.stdout, done.stderr


@pytest.mark.parametrize(
    ("known", "message", "fix"),
    [
        (None, "its host key is not known here", "fix: ssh -p 2222 root@"),
        ("other_key", "its host key is not the known one", "ssh-keygen -f"),
    ],
)
def test_a_host_with_an_unknown_key_is_refused(control_host, new_deployment, known, message, fix):
    """The message has a fix, and there is no login."""
    deployment = new_deployment("rehearsal", control_host)
    control_host.hang_up()
    before = control_host.logins()
    control_host.trust(known)
    try:
        printed = deployment.fail("preview")
    finally:
        control_host.trust()
    assert f"dockerHost: {control_host.address!r} cannot be reached: {message}" in printed
    assert fix in printed
    assert before == control_host.logins()


@pytest.fixture(scope="module", params=RUNNERS)
def remote(request, control_host, deployed, swarm):
    """Return a small cluster that the control host deploys and destroys."""
    control_host.hang_up()
    before = control_host.logins()
    # The rehearsal deploys to the lab's own addresses only.
    named = {"dockerHost": f"ssh://{sshd.USER}@{sshd.ALIAS}"} if request.param == "pulumi" else {}
    control_host.forget_commands()  # of other suites
    config = {"workers": 1, "caddyMode": "none"} | named
    with deployed(request.param, control_host, **config) as deployment:
        yield deployment
    assert not wait_until_gone(swarm)
    assert before + 1 == control_host.logins()


def test_the_cluster_is_proven_from_the_control_host(remote):
    """The probe is started, watched and removed through SSH too."""
    assert 1 == remote.runner.outputs()["health"]["workers"]


def test_the_manager_needs_docker_and_nothing_else(remote, control_host):
    """The only command on the manager is the connection to its engine."""
    assert {"docker system dial-stdio"} == control_host.commands()


def test_a_second_up_changes_nothing(remote, swarm):
    """A refresh, which reads all resources at once, changes nothing either."""
    before = {service.name: service.version for service in cluster_services(swarm)}
    if remote.runner.name == "pulumi":
        remote.run("preview", "--refresh", "--expect-no-changes")
    remote.run("up")
    assert before == {service.name: service.version for service in cluster_services(swarm)}


@pytest.mark.parametrize("remote", ["rehearsal"], indirect=True)
def test_a_killed_probe_leaves_nothing(remote, control_host, swarm):
    """The reaper needs its own connection to remove the probe."""
    request = probe_request() | {"packages": ["no-such-package"], "deadline_seconds": 40}
    with subprocess.Popen(
        control_host.command(sys.executable, "-m", "health"),
        cwd=ROOT,
        env=os.environ | {"DOCKER_HOST": control_host.address},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as probe:
        probe.stdin.write(json.dumps(request))
        probe.stdin.close()
        wait_for("service of the probe", lambda: probe_services(swarm), 20)
        probe.kill()
    wait_for("removal of the probe", lambda: not probe_services(swarm), 20)
