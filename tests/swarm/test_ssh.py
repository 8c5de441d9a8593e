"""The manager behind SSH: a control host that has nothing but its key.

What becomes of updates, of work under way, of what was done by hand and of the end is tested from
there too: those suites deploy by way of the same control host.
"""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.swarm.conftest import RUNNERS, cluster_services, probe_services, wait_for, wait_until_gone

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
for each in threads: each.start()
for each in threads: each.join()
print(answers)
"""


def test_many_at_once_are_all_let_in(control_host):
    """A refresh asks for every resource at once, more than a server takes through one login."""
    count = 32
    call = control_host.command(sys.executable, "-c", BURST, control_host.address, str(count))
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False)
    assert f"{[3] * count}\n" == done.stdout, done.stderr
    assert count > control_host.logins()


@pytest.mark.parametrize(
    ("known", "message", "cure"),
    [
        (None, "its host key is not known here", "ssh-keyscan -p 2222"),
        ("other_key", "its host key is not the known one", "ssh-keygen -R"),
    ],
)
def test_a_host_whose_key_is_not_the_known_one_is_refused(
    control_host, new_deployment, known, message, cure
):
    """One line with its cure, and not a single login."""
    deployment = new_deployment("rehearsal", control_host)
    control_host.hang_up()
    before = control_host.logins()
    control_host.trust(known)
    try:
        printed = deployment.fail("preview")
    finally:
        control_host.trust()
    assert f"dockerHost: {control_host.address!r} cannot be reached: {message}" in printed
    assert cure in printed
    assert before == control_host.logins()


@pytest.fixture(scope="module", params=RUNNERS)
def remote(request, control_host, deployed, swarm):
    """Return a small cluster that was deployed from the control host, and is destroyed from it."""
    control_host.hang_up()
    before = control_host.logins()
    with deployed(request.param, control_host, workers=1, caddyMode="none") as deployment:
        yield deployment
    assert not wait_until_gone(swarm)
    assert before + 1 == control_host.logins()


def test_the_cluster_is_proven_from_the_control_host(remote):
    """The probe is started, watched and removed through SSH too."""
    assert 1 == remote.runner.outputs()["health"]["workers"]


def test_the_manager_needs_docker_and_nothing_else(remote, control_host):
    """What ran there is the way to its engine; no file was copied, no other program asked."""
    assert {"docker system dial-stdio"} == control_host.commands()


def test_a_second_up_changes_nothing(remote, swarm):
    """Nor does a refresh, which asks for every resource at once before the program runs."""
    before = {each.name: each.version for each in cluster_services(swarm)}
    if remote.runner.name == "pulumi":
        remote.run("preview", "--refresh", "--expect-no-changes")
    remote.run("up")
    assert before == {each.name: each.version for each in cluster_services(swarm)}


@pytest.mark.parametrize("remote", ["rehearsal"], indirect=True)
def test_a_probe_that_is_killed_leaves_nothing(remote, control_host, swarm):
    """Who takes it away then has to find a way of its own."""
    state = json.loads((ROOT / ".pulumi" / "rehearsal" / "test.json").read_text())
    asked = state["resources"]["command:local:Command::dask-health-run"]["inputs"]["stdin"]
    request = json.loads(asked) | {"packages": ["no-such-package"], "deadline_seconds": 40}
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
        wait_for(lambda: probe_services(swarm), 20)
        probe.kill()
    wait_for(lambda: not probe_services(swarm), 20)
