"""The state of a stack: the same from everywhere, of use when the Swarm under it is another."""

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
    with deployed("pulumi", workers=2, workersPerNode=1) as made:
        yield made


@pytest.fixture
def elsewhere(deployment, tmp_path):
    """Return the same stack from another checkout, by a user of another name and home."""
    checkout, home = tmp_path / "another checkout", tmp_path / "home"
    home.mkdir()
    left_out = shutil.ignore_patterns(
        ".git", ".venv", ".pulumi", ".lab", ".*_cache", "__pycache__"
    )
    shutil.copytree(ROOT, checkout, ignore=left_out)
    (checkout / ".venv").symlink_to(ROOT / ".venv")
    plugins = os.environ.get("PULUMI_HOME") or Path("~/.pulumi").expanduser()
    user = [f"HOME={home}", "USER=somebody", "LOGNAME=somebody", "LANG=C", "TZ=Asia/Tokyo"]
    wrapper = ["env", *user, f"PULUMI_HOME={plugins}"]
    return replace(
        deployment, runner=replace(deployment.runner, project=checkout, wrapper=wrapper)
    )


def test_nothing_changes_from_elsewhere(elsewhere, swarm):
    """No path, user, language or clock of the machine is an input of anything."""
    before = {each.name: each.version for each in cluster_services(swarm)}
    elsewhere.run("preview", *DRIFT)
    elsewhere.run("up")
    assert before == {each.name: each.version for each in cluster_services(swarm)}


def test_another_swarm_gets_everything_anew(deployment, lab, swarm):
    """What the state says of a Swarm that is gone is found to be gone, and made again."""
    for node in reversed(lab.nodes):
        with connect(node.docker_host) as engine:
            engine.leave_swarm(force=True)
    lab_swarm.form(lab.nodes)
    with pytest.raises(docker.errors.NotFound):
        swarm.services.get("dask_scheduler")
    deployment.run("up")
    assert 2 == deployment.runner.outputs()["health"]["workers"]
    deployment.run("preview", *DRIFT)
