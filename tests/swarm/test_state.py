"""The state of a stack works from every checkout, and with a new Swarm."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import docker
import pytest

from lab import swarm as lab_swarm
from lab.engine import connect
from tests.conftest import ROOT
from tests.swarm.conftest import RUNNERS, cluster_services

pytestmark = pytest.mark.skipif("pulumi" not in RUNNERS, reason="only the Pulumi CLI has a state")
DRIFT = ("--refresh", "--expect-no-changes")


@pytest.fixture(scope="module")
def deployment(deployed):
    """Return a small deployment."""
    with deployed("pulumi", workers=2, workersPerNode=1) as deployment:
        yield deployment


@pytest.fixture
def elsewhere(deployment, tmp_path):
    """Return the same stack in another checkout, for another user with another home."""
    checkout, home = tmp_path / "another checkout", tmp_path / "home"
    home.mkdir()
    ignored = shutil.ignore_patterns(".git", ".venv", ".pulumi", ".lab", ".*_cache", "__pycache__")
    shutil.copytree(ROOT, checkout, ignore=ignored)
    (checkout / ".venv").symlink_to(ROOT / ".venv")
    plugins = os.environ.get("PULUMI_HOME") or Path("~/.pulumi").expanduser()
    user = [f"HOME={home}", "USER=other", "LOGNAME=other", "LANG=C", "TZ=Asia/Tokyo"]
    wrapper = ["env", *user, f"PULUMI_HOME={plugins}"]
    return replace(
        deployment, runner=replace(deployment.runner, project=checkout, wrapper=wrapper)
    )


def test_nothing_changes_from_elsewhere(elsewhere, swarm):
    """Paths, user, language and clock of the machine are no inputs of any resource."""
    before = {service.name: service.version for service in cluster_services(swarm)}
    elsewhere.run("preview", *DRIFT)
    elsewhere.run("up")
    assert before == {service.name: service.version for service in cluster_services(swarm)}


def test_a_new_swarm_gets_all_resources_again(deployment, lab, swarm):
    """The resources of the old Swarm are found missing, and created again."""
    for node in reversed(lab.nodes):
        with connect(node.docker_host) as engine:
            engine.leave_swarm(force=True)
    lab_swarm.form(lab.nodes)
    with pytest.raises(docker.errors.NotFound):
        swarm.services.get("dask_scheduler")
    deployment.run("up")
    assert 2 == deployment.runner.outputs()["health"]["workers"]
    deployment.run("preview", *DRIFT)
