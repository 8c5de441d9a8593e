"""The manager behind SSH: everything from a control host that has nothing but its key."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.swarm import sshd
from tests.swarm.conftest import RUNNERS, declared, one_shots, wait_until_gone
from tests.swarm.test_failed_probes import wait_for

BURST = """
import sys, threading
from remote.engine import connect
address, count = sys.argv[1], int(sys.argv[2])
together, answers = threading.Barrier(count), []
def ask():
    together.wait()
    with connect(address, seconds=60) as manager:
        answers.append(len(manager.nodes()))
        together.wait()
threads = [threading.Thread(target=ask) for _ in range(count)]
for each in threads: each.start()
for each in threads: each.join()
print(answers)
"""


@pytest.fixture(scope="module")
def server(lab):
    """Return an SSH server on the manager, for users of a control host."""
    # The sockets of ssh have to have short paths.
    with (
        tempfile.TemporaryDirectory(prefix="sshd-") as folder,
        sshd.running(lab.master, Path(folder)) as found,
    ):
        yield found


def test_many_at_once_are_all_let_in(server):
    """A refresh asks for every resource at once, more than a server takes through one login."""
    count = 32
    call = server.command(sys.executable, "-c", BURST, server.address, str(count))
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False)
    assert f"{[3] * count}\n" == done.stdout, done.stderr
    assert count > server.logins()


@pytest.mark.parametrize(
    ("known", "message", "cure"),
    [
        (None, "its host key is not known here", "ssh-keyscan -p 2222"),
        ("other_key", "its host key is not the known one", "ssh-keygen -R"),
    ],
)
def test_a_host_whose_key_is_not_the_known_one_is_refused(
    server, new_deployment, defaults_for_lab, known, message, cure
):
    """One line with its cure, and not a single login."""
    deployment = new_deployment("rehearsal", wrapper=server.command())
    deployment.configure(**defaults_for_lab | {"dockerHost": server.address})
    server.hang_up()
    before = server.logins()
    server.trust(known)
    try:
        printed = deployment.fail("preview")
    finally:
        server.trust()
    assert f"dockerHost: {server.address!r} cannot be reached: {message}" in printed
    assert cure in printed
    assert before == server.logins()


@pytest.fixture(scope="module", params=RUNNERS)
def remote(request, server, new_deployment, defaults_for_lab, swarm):
    """Return a small cluster that was deployed from the control host, and is destroyed from it."""
    assert not wait_until_gone(swarm)
    server.hang_up()
    before = server.logins()
    deployment = new_deployment(request.param, wrapper=server.command())
    config = {"dockerHost": server.address, "workers": 1, "caddyMode": "none"}
    deployment.configure(**defaults_for_lab | config)
    try:
        deployment.run("up")
        yield deployment
    finally:
        deployment.run("destroy")
    assert not wait_until_gone(swarm)
    assert before + 1 == server.logins()


def test_the_cluster_is_proven_from_the_control_host(remote):
    """The probe is started, watched and removed through SSH too."""
    assert 1 == remote.runner.outputs()["health"]["workers"]


def test_the_manager_needs_docker_and_nothing_else(remote, server):
    """What ran there is the way to its engine; no file was copied, no other program asked."""
    assert {"docker system dial-stdio"} == server.commands()


def test_a_second_up_changes_nothing(remote, swarm):
    """Nor does a refresh, which asks for every resource at once before the program runs."""
    before = {each.name: each.version for each in declared(swarm)}
    if remote.runner.name == "pulumi":
        remote.run("preview", "--refresh", "--expect-no-changes")
    remote.run("up")
    assert before == {each.name: each.version for each in declared(swarm)}


@pytest.mark.parametrize("remote", ["rehearsal"], indirect=True)
def test_a_probe_that_is_killed_leaves_nothing(remote, server, swarm):
    """Who takes it away then has to find a way of its own."""
    state = json.loads((ROOT / ".pulumi" / "rehearsal" / "test.json").read_text())
    asked = state["resources"]["command:local:Command::dask-health-run"]["inputs"]["stdin"]
    request = json.loads(asked) | {"packages": ["no-such-package"], "deadline_seconds": 40}
    with subprocess.Popen(
        server.command(sys.executable, "-m", "health"),
        cwd=ROOT,
        env=os.environ | {"DOCKER_HOST": server.address},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as probe:
        probe.stdin.write(json.dumps(request))
        probe.stdin.close()
        wait_for(lambda: one_shots(swarm), 20)
        probe.kill()
    wait_for(lambda: not one_shots(swarm), 20)
