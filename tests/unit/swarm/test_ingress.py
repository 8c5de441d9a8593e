"""What the Swarm must have before one Caddy, or its network, takes the place of another."""

import pytest

from config.settings import parse_settings
from swarm.ingress import problems
from swarm.networks import OWNER_LABEL

MANAGED = {"caddyMode": "managed", "domain": "localhost", "auth": "basic"}
SITES = {
    "domain": "example.org",
    "autheliaPortal": "https://auth.example.org",
    "caddyDirectory": "/srv/caddy",
    "caddyService": "edge_caddy",
}
OWN_LABEL = {OWNER_LABEL: "a random value"}
OWN = ["dask_caddy", "dask_notebook", "dask_prefect", "dask_scheduler"]


def network(name="caddy-network", **fields):
    """Return a network as the manager lists it."""
    return {"Name": name, "Id": f"{name}-id", "Scope": "swarm", "Labels": None} | fields


def service(name, *networks):
    """Return a service on networks, as the manager lists it."""
    attached = [{"Target": f"{network}-id"} for network in networks] or None
    return {"ID": f"{name}-id", "Spec": {"Name": name, "TaskTemplate": {"Networks": attached}}}


@pytest.fixture
def check(defaults):
    """Return a function that returns the problems of a config on a Swarm."""

    def found(config, networks=(), services=(), tasks=()):
        settings = parse_settings(defaults | config, (), {})
        return list(problems(networks, services, tasks, settings))

    return found


class TestManaged:
    def test_a_network_of_another_stack_is_refused(self, check):
        """The provider would fail half-way, because the name is taken."""
        (problem,) = check(MANAGED, [network()])
        assert "a network 'caddy-network' already, which this stack has not" in problem.found
        assert "pulumi config set caddyNetwork dask-caddy-network" == problem.fix

    def test_the_network_of_an_existing_caddy_is_refused(self, check):
        """The stack's services are on it, but its Caddy is not."""
        on_it = [service(name, "caddy-network") for name in (*OWN[1:], "edge_caddy")]
        assert ["caddyNetwork"] == [p.key for p in check(MANAGED, [network()], on_it)]

    def test_the_network_of_another_managed_caddy_is_refused(self, check):
        """It has the label of such networks, and services of another stack."""
        labelled, other = network(Labels=OWN_LABEL), [service("other_caddy", "caddy-network")]
        assert ["caddyNetwork"] == [p.key for p in check(MANAGED, [labelled], other)]

    def test_a_network_of_one_node_has_no_influence(self, check):
        """An overlay network may have the same name."""
        assert [] == check(MANAGED, [network(Scope="local")])

    @pytest.mark.parametrize("labels", [None, OWN_LABEL])
    def test_its_own_network_is_accepted(self, check, labels):
        """Also an older network without the label, and a network that other stacks have joined."""
        on_it = [service(name, "caddy-network") for name in (*OWN, "another")]
        assert [] == check(MANAGED, [network(Labels=labels)], on_it)

    @pytest.mark.parametrize("users", [[], ["dask_notebook"]])
    def test_a_network_that_a_failed_up_left_is_accepted(self, check, users):
        """It has the label, and no service of another stack."""
        on_it = [service(name, "caddy-network") for name in users]
        assert [] == check(MANAGED, [network(Labels=OWN_LABEL)], on_it)


class TestChange:
    @pytest.mark.parametrize("name", OWN)
    @pytest.mark.parametrize(
        "config",
        [MANAGED | {"caddyNetwork": "other"}, {"caddyNetwork": "other"}, {"caddyMode": "none"}],
        ids=["renamed", "existing Caddy", "no Caddy"],
    )
    def test_a_network_with_own_services_can_be_removed(self, check, name, config):
        """The stack replaces or removes all of them first."""
        on_it = [service(user, "caddy-network") for user in {"dask_caddy", name}]
        assert [] == check(config, [network()], on_it)

    def test_a_service_of_another_stack_must_leave_first(self, check):
        """Swarm refuses to remove a network in use; all such services are named."""
        on_it = [service(name, "caddy-network") for name in (*OWN, "two", "one")]
        (problem,) = check({"caddyMode": "none"}, [network()], on_it)
        assert "'caddy-network' cannot be removed: one, two of another stack" in problem.found
        leave = "docker service update --network-rm caddy-network"
        assert f"{leave} one && {leave} two" == problem.fix

    def test_services_on_other_networks_may_stay(self, check):
        """Only the network of the managed Caddy is removed."""
        elsewhere = [service("dask_caddy", "caddy-network"), service("another", "dask-network")]
        networks = [network(), network("dask-network")]
        assert [] == check({"caddyMode": "none"}, networks, elsewhere)

    def test_an_existing_caddy_needs_its_own_network(self, check):
        """The network of the managed Caddy is removed with it."""
        on_it = [service("dask_caddy", "caddy-network")]
        (problem,) = check({}, [network()], on_it)
        assert "'caddy-network' is the network of this stack's managed Caddy" in problem.found
        assert problem.fix.startswith("docker network create --driver overlay caddy-network-ext")
        assert problem.fix.endswith("pulumi config set caddyNetwork caddy-network-external")

    def test_a_managed_caddy_of_another_stack_is_an_existing_caddy(self, check):
        """This stack may join it."""
        labelled, other = network(Labels=OWN_LABEL), [service("other_caddy", "caddy-network")]
        assert [] == check({}, [labelled], other)


class TestExistingCaddy:
    RUNNING, PENDING = (
        {"ServiceID": "edge_caddy-id", "Status": {"State": state}}
        for state in ("running", "pending")
    )

    def test_it_must_run(self, check):
        """Only a running Caddy can load the sites; tasks of other services do not count."""
        tasks = [self.PENDING, self.RUNNING | {"ServiceID": "another-id"}]
        (problem,) = check(SITES, services=[service("edge_caddy")], tasks=tasks)
        assert "'edge_caddy' has no running task" == problem.found
        assert "docker service ps edge_caddy" == problem.fix

    def test_the_managed_caddy_may_have_its_ports(self, check):
        """It is removed at the end of the `up`, when the existing Caddy must run already."""
        both = [service("edge_caddy"), service("dask_caddy", "own-network")]
        (problem,) = check(SITES, services=both, tasks=[self.PENDING])
        assert problem.found.endswith("dask_caddy of this stack has the ports 80 and 443")
        assert "docker service scale dask_caddy=0" == problem.fix

    def test_a_running_caddy_is_accepted(self, check):
        """Whether the managed Caddy runs or not, for example on another node."""
        both = [service("edge_caddy"), service("dask_caddy")]
        assert [] == check(SITES, services=both, tasks=[self.PENDING, self.RUNNING])

    @pytest.mark.parametrize("changed", [{"caddyDirectory": ""}, {"caddyService": "container"}])
    def test_a_caddy_that_the_stack_cannot_see_is_not_judged(self, check, changed):
        """Without a directory nothing is installed, and a container is no service."""
        assert [] == check(SITES | changed, services=[service("edge_caddy")])
