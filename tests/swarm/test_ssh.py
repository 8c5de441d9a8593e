"""The manager behind SSH: the control host has its key and nothing else.

The suites for updates, computations, drift and destroy deploy from the same control host.
"""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT, wait_for
from tests.swarm import sshd
from tests.swarm.conftest import (
    RUNNERS,
    cluster_services,
    probe_request,
    probe_services,
    specs,
    wait_until_gone,
)
from tests.swarm.containers import notebook_container, run_in

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
COPY = """
import sys
from pathlib import Path
from lab.runners import RehearsalRunner
from tools import backup
runner, (action, folder) = RehearsalRunner(stack="test"), sys.argv[1:]
sys.exit(backup.run(runner, action, folder=Path(folder), made_by="test"))
"""
MAKE_FILES = """
cd && rm -rf kept && mkdir -p kept/folder && cd kept && echo 1 >deleted && echo 1 >changed
head -c 30000000 /dev/urandom >data && chmod 640 data && ln -s ../data folder/link
"""
CHANGE_FILES = (
    "cd ~/kept && rm deleted folder/link && echo 22 >changed && chmod 600 data && echo >new"
)
LIST_FILES = """
cd ~/kept && find . -type f -exec sha256sum {} + | sort && find . -printf '%p %U %G %m %l\n' | sort
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
        (None, "its host key is not known here", "ssh-keyscan -p 2222"),
        ("other_key", "its host key is not the known one", "ssh-keygen -R"),
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


@pytest.mark.parametrize("remote", ["rehearsal"], indirect=True)
def test_a_home_is_backed_up_and_restored(remote, control_host, lab, swarm, tmp_path):
    """Through SSH alone: what was deleted, changed and added since is as it was."""
    with notebook_container(lab) as container:
        run_in(container, "sh", "-c", MAKE_FILES)
        before = run_in(container, "sh", "-c", LIST_FILES)
        run_copy(control_host, "backup", tmp_path / "1")
        run_in(container, "sh", "-c", CHANGE_FILES)
        assert before != run_in(container, "sh", "-c", LIST_FILES)
    declared, printed = specs(swarm), run_copy(control_host, "restore", tmp_path / "1")
    assert "does not have: removed 1 (kept/new); replaced " in printed
    with notebook_container(lab) as container:
        assert before == run_in(container, "sh", "-c", LIST_FILES)
        assert "" == run_in(container, "find", "/home/jovyan", "-name", ".dask-swarm*")
    assert declared == specs(swarm)
    assert [] == transfers(swarm)


@pytest.mark.parametrize("remote", ["rehearsal"], indirect=True)
def test_a_killed_restore_changes_nothing(remote, control_host, lab, swarm, tmp_path):
    """The agent's service is removed, and what it had written too."""
    with notebook_container(lab) as container:
        run_in(container, "sh", "-c", MAKE_FILES)
        before = run_in(container, "sh", "-c", LIST_FILES)
        run_copy(control_host, "backup", tmp_path / "1")
        with subprocess.Popen(copy_command(control_host, "restore", tmp_path / "1")) as restore:
            wait_for("unpacked files", lambda: half_restored(container))
            restore.kill()
        wait_for("end of the transfer", lambda: not transfers(swarm))
        wait_for("removal of the new files", lambda: not half_restored(container))
        assert before == run_in(container, "sh", "-c", LIST_FILES)


def half_restored(container):
    """Return whether a home has the folder of a restore."""
    return container.exec_run(["test", "-e", "/home/jovyan/.dask-swarm-restore"])[0] == 0


def copy_command(control_host, action, folder):
    """Return the command that backs up or restores the rehearsal's stack."""
    return control_host.command(sys.executable, "-c", COPY, action, str(folder))


def run_copy(control_host, action, folder):
    """Back up or restore the rehearsal's stack; return what is printed."""
    command = copy_command(control_host, action, folder)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    return done.stderr


def transfers(swarm):
    """Return the services of backups and restores."""
    return swarm.services.list(filters={"name": "dask_transfer"})
