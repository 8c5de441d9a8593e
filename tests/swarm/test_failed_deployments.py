"""Deployments that cannot succeed: `up` fails in time with the reason."""

from contextlib import closing

import docker
import pytest

from tests.swarm.conftest import RUNNERS, leftovers, wait_until_gone
from tests.swarm.derived import whose_pip_has_no_index

HOME = "dask-notebook"


@pytest.fixture
def failing(request, new_deployment, swarm):
    """Return a stack on an empty Swarm, destroyed at the end of its test."""
    assert not wait_until_gone(swarm)
    deployment = new_deployment(request.param)
    try:
        yield deployment
    finally:
        deployment.run("destroy")


@pytest.mark.parametrize("failing", RUNNERS, indirect=True)
def test_a_bad_config_changes_nothing(failing, swarm):
    """All problems are reported at once, before any resource is created."""
    failing.configure(workers=5, workerCpus="half", colour="red")
    printed = failing.fail("up")
    assert "colour: unknown key" in printed
    assert "workerCpus: 'half' is not valid" in printed
    assert "Traceback" not in printed
    assert not leftovers(swarm)


@pytest.fixture
def foreign_home(lab, images):
    """Give the volume of the notebook's home to root, and remove it afterwards."""
    with closing(docker.DockerClient(lab.docker_host)) as engine:
        command = ["sh", "-c", "touch /home/file && chown -R 0:0 /home && chmod 755 /home"]
        volume = {HOME: {"bind": "/home"}}
        try:
            engine.containers.run(images["image"], command, user="0", volumes=volume, remove=True)
            yield
        finally:
            engine.volumes.get(HOME).remove(force=True)


@pytest.mark.parametrize("failing", ["rehearsal"], indirect=True)
def test_containers_that_cannot_start_are_explained(foreign_home, failing, lab, images):
    """Scheduler and workers install packages; the notebook cannot write to its home."""
    image = whose_pip_has_no_index(lab.docker_host, images["image"])
    failing.configure(image=image, extraPipPackages=["s3fs"], healthDeadline=120)
    printed = failing.fail("up")
    print(printed[-5000:])
    assert "cause: pip cannot connect to its package index at 127.0.0.1 (NewConnect" in printed
    assert "cause: the volume dask-notebook (/home/jovyan) does not belong to the" in printed
    assert "container's user, uid 1000" in printed
