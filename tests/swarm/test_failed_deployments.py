"""Deployments that cannot succeed: `up` fails in time with the reason."""

import pytest

from tests.swarm.conftest import RUNNERS, leftovers, wait_until_gone


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
