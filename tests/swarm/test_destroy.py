"""The end leaves nothing."""

import pytest

from tests.swarm.conftest import RUNNERS, wait_until_gone


@pytest.mark.parametrize("runner", RUNNERS)
def test_destroy_leaves_nothing_and_can_be_repeated(runner, new_deployment, swarm):
    """After `destroy` no service, network, config or secret is left; twice is no error."""
    assert not wait_until_gone(swarm)
    deployment = new_deployment(runner)
    try:
        deployment.run("up")
    finally:
        deployment.run("destroy")
    assert not wait_until_gone(swarm)
    deployment.run("destroy")
