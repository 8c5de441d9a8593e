"""Another network, another Caddy or none, each in one `up` of one deployment."""

import pytest

from tests.swarm.conftest import (
    RUNNERS,
    cluster_services,
    kill,
    leftovers,
    service_of,
    wait_until_gone,
)
from tests.swarm.ingress import DOMAIN, MANAGED_CADDY
from tools.deploy import deploy

pytestmark = pytest.mark.skipif("pulumi" not in RUNNERS, reason="only the Pulumi CLI replaces")
PORTAL = {"autheliaPortal": "https://portal.localhost", "autheliaAddress": "authelia:9091"}
EXISTING_CADDY = {"caddyNetwork": "caddy-network", "domain": DOMAIN} | PORTAL
RENAMED = MANAGED_CADDY | {"caddyNetwork": "dask-renamed-network"}
SMALL = {"workers": 1, "proof": "quick"}
MANAGED = {"dask_caddy", "dask_caddy_reloader"}


@pytest.fixture(scope="module")
def deployment(deployed, swarm):
    """Return a small deployment with a managed Caddy."""
    with deployed("pulumi", **SMALL, **MANAGED_CADDY) as deployment:
        yield deployment
    assert not wait_until_gone(swarm)


@pytest.fixture
def check(deployment, swarm):
    """Return a function that checks a config's result: only what it declares is there."""

    def has_only(config):
        wanted = config["caddyNetwork"]
        names = {network.id: network.name for network in swarm.networks.list()}
        assert {"dask-network", wanted} == networks_of(service_of(swarm, "dask_notebook"), names)
        networks = {name for name in names.values() if name.startswith("dask-")}
        assert {"dask-network", wanted} - {"caddy-network"} == networks
        caddy = {s.name for s in swarm.services.list() if s.name.startswith("dask_caddy")}
        assert (MANAGED if "caddyMode" in config else set()) == caddy
        sites = {name for name in leftovers(swarm) if name.startswith("front")}
        assert bool(config["domain"]) == bool(sites)
        deployment.run("preview", "--expect-no-changes")

    return has_only


def test_a_killed_up_that_renames_the_network_is_finished(deployment, swarm, check):
    """The next `up` does not delete again what is gone, and removes the old network."""
    deployment.configure(**SMALL, **RENAMED)
    kill(deployment, "up", lambda: len(cluster_services(swarm)) < 3)
    assert 0 == deploy(deployment.runner, "up")
    check(RENAMED)


@pytest.mark.parametrize(
    "config",
    [EXISTING_CADDY, EXISTING_CADDY | {"domain": ""}, MANAGED_CADDY],
    ids=["existing Caddy", "no domain", "managed Caddy"],
)
def test_one_up_is_enough(deployment, check, config):
    """Nothing of the ingress of before is left, and a second `up` would change nothing."""
    deployment.configure(**SMALL, **config)
    deployment.run("up")
    check(config)


def networks_of(service, names):
    """Return the names of the networks that a service is on."""
    return {names[to["Target"]] for to in service.attrs["Spec"]["TaskTemplate"]["Networks"]}
