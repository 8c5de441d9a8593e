"""A killed deployment: the next `up` proves the stack, the next `destroy` leaves nothing."""

import pytest

from tests.swarm.conftest import (
    RUNNERS,
    kill,
    probe_services,
    remove_leftovers,
    wait_until_gone,
)
from tests.swarm.ingress import MANAGED_CADDY
from tools.deploy import deploy

pytestmark = pytest.mark.skipif(
    "pulumi" not in RUNNERS, reason="without the Pulumi CLI there is no state to repair"
)
NO_CHANGE = ("--refresh", "--expect-no-changes")


def exists(kind, prefix):
    """Return a condition: the Swarm has a service, network, config or secret of this name."""
    return lambda swarm: [
        resource for resource in getattr(swarm, kind).list() if resource.name.startswith(prefix)
    ]


# From the first object to the last: what the Swarm has when the deployment is killed.
MOMENTS = {
    "network": exists("networks", "dask-network"),
    "config": exists("configs", "front-reloader"),
    "first service": exists("services", "dask_"),
    "reloader": exists("services", "dask_caddy_reloader"),
    "notebook": exists("services", "dask_notebook"),
    "probe": probe_services,
}


@pytest.fixture(scope="module")
def deployment(new_deployment, swarm):
    """Return a stack with a managed Caddy that is not deployed yet."""
    assert not wait_until_gone(swarm)
    deployment = new_deployment("pulumi")
    deployment.configure(**MANAGED_CADDY, workers=2, workersPerNode=1)
    yield deployment
    remove_leftovers(swarm)


@pytest.fixture
def after_destroy(deployment, swarm):
    """Destroy the stack, which must leave nothing."""
    yield
    assert 0 == deploy(deployment.runner, "destroy")
    assert not wait_until_gone(swarm, seconds=0)


@pytest.mark.parametrize("moment", ["network", "notebook", "probe"])
@pytest.mark.usefixtures("after_destroy")
def test_up_completes_a_killed_up(deployment, swarm, moment):
    """The cluster is proven, and nothing differs from the program."""
    kill(deployment, "up", lambda: MOMENTS[moment](swarm))
    assert 0 == deploy(deployment.runner, "up")
    assert 2 == deployment.runner.outputs()["health"]["workers"]
    deployment.run("preview", *NO_CHANGE)


@pytest.mark.parametrize("moment", ["config", "reloader", "probe"])
def test_destroy_removes_what_a_killed_up_left(deployment, swarm, moment):
    """Also what the state does not have."""
    kill(deployment, "up", lambda: MOMENTS[moment](swarm))
    assert 0 == deploy(deployment.runner, "destroy")
    assert not wait_until_gone(swarm, seconds=0)


@pytest.mark.usefixtures("after_destroy")
def test_an_interrupted_up_can_be_continued(deployment, swarm):
    """SIGINT lets the engine finish what it is creating."""
    deployment.interrupt("up", lambda: MOMENTS["first service"](swarm))
    assert 0 == deploy(deployment.runner, "up")
    deployment.run("preview", *NO_CHANGE)


def test_an_interrupted_up_can_be_destroyed(deployment, swarm):
    """Its state has services and networks, but nothing that ends their tasks."""
    deployment.interrupt("up", lambda: MOMENTS["notebook"](swarm))
    assert 0 == deploy(deployment.runner, "destroy")
    assert not wait_until_gone(swarm, seconds=0)


def test_a_killed_destroy_can_be_repeated(deployment, swarm):
    """Its state has objects that the Swarm has not any more."""
    assert 0 == deploy(deployment.runner, "up")
    kill(deployment, "destroy", lambda: not MOMENTS["first service"](swarm))
    assert 0 == deploy(deployment.runner, "destroy")
    assert not wait_until_gone(swarm, seconds=0)


def test_another_stacks_network_stays(deployment, swarm, capfd):
    """It has the name of a network that a killed up was creating, but not its label."""
    kill(deployment, "up", lambda: MOMENTS["network"](swarm))
    for network in swarm.networks.list(names=["dask-network"]):
        network.remove()
    foreign = swarm.networks.create("dask-network", driver="overlay")
    try:
        assert 0 != deploy(deployment.runner, "up")
        assert (
            "dask-network: the network is not this stack's, so it stays" in capfd.readouterr().err
        )
        assert 0 == deploy(deployment.runner, "destroy")
        assert [foreign.id] == [network.id for network in MOMENTS["network"](swarm)]
    finally:
        foreign.remove()
    assert not wait_until_gone(swarm, seconds=0)
