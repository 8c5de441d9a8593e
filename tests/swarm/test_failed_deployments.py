"""Deployments that cannot succeed: `up` fails in time and says why, as the engine shows it."""

import pytest

from tests.swarm.conftest import RUNNERS, left_behind, one_shots, wait_until_gone

NOWHERE = "sha256:" + "0" * 64


@pytest.fixture
def failing(request, new_deployment, swarm):
    """Return a stack on an empty Swarm that is taken down however its test ends."""
    assert not wait_until_gone(swarm)
    deployment = new_deployment(request.param)
    try:
        yield deployment
    finally:
        deployment.run("destroy")


@pytest.mark.parametrize("failing", RUNNERS, indirect=True)
def test_impossible_memory_is_explained(failing, defaults_for_lab, swarm):
    """More memory than any node has: the message says what is asked for and what there is."""
    failing.configure(**defaults_for_lab, workerMemory="1TiB")
    printed = failing.fail("up")
    assert "insufficient resources" in printed
    assert "each task asks for 0.5 CPU and 1024GiB" in printed
    assert not one_shots(swarm)


@pytest.mark.parametrize("failing", RUNNERS, indirect=True)
def test_an_image_that_no_node_can_get_is_named(failing, defaults_for_lab):
    """A digest that is not in the registry: the message names the image."""
    image = f"{defaults_for_lab['image']}@{NOWHERE}"
    failing.configure(**defaults_for_lab | {"image": image})
    printed = failing.fail("up")
    assert "image not found" in printed
    assert image in printed


@pytest.mark.parametrize("failing", RUNNERS, indirect=True)
def test_a_bad_config_touches_nothing(failing, defaults_for_lab, swarm):
    """Everything wrong is told at once, before any resource is made."""
    failing.configure(**defaults_for_lab, workers=5, workerCpus="half", colour="red")
    printed = failing.fail("up")
    assert "colour: there is no such key" in printed
    assert "workerCpus: 'half' is not valid" in printed
    assert "Traceback" not in printed
    assert not left_behind(swarm)


@pytest.mark.parametrize("failing", RUNNERS, indirect=True)
def test_what_the_swarm_cannot_take_touches_nothing(failing, defaults_for_lab, swarm):
    """Too many workers, no such image and no such network are told at once, each with its cure."""
    unknown = "localhost:5001/dask-swarm:no-such-tag"
    config = {"workers": 5, "image": unknown, "caddyNetwork": "no-such-network"}
    failing.configure(**defaults_for_lab | config)
    printed = failing.fail("up")
    assert "workers: 5 have no room" in printed
    assert f"image: '{unknown}' cannot be resolved to a digest" in printed
    assert "docker network create --driver overlay no-such-network" in printed
    assert not left_behind(swarm)
