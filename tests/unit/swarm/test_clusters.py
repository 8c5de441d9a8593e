"""What other clusters on the Swarm have is reported before anything changes."""

import pytest

from config.settings import parse_settings
from swarm.clusters import shared_network, taken_ports
from tests.unit.swarm.test_capacity import BOTH, NODES, replace_platform, task

MANAGED = {
    "caddyMode": "managed",
    "domain": "localhost",
    "auth": "basic",
    "controlPlacement": "node.labels.role==data-worker",
}
NETWORKS = [{"Id": "n1", "Name": "caddy-network"}, {"Id": "n2", "Name": "another"}]
FIT = [node for node in NODES if node["Spec"]["Labels"] == {"role": "data-worker"}]


@pytest.fixture
def settings(defaults):
    """Return a function that returns the settings of the cluster `blue`."""
    return lambda **config: parse_settings(defaults | {"clusterName": "blue"} | config, (), {})


def service(name, *networks, ports=(), mode="host", revision="1", protocol="tcp"):
    labels = {"dask.swarm/revision": revision} if revision else {}
    template = {"Networks": [{"Target": network} for network in networks]}
    port = {"PublishMode": mode, "Protocol": protocol}
    published = [{"PublishedPort": number} | port for number in ports]
    spec = {"Name": name, "Labels": labels, "TaskTemplate": template}
    return {"ID": f"{name}-id", "Spec": spec, "Endpoint": {"Ports": published}}


class TestSharedNetwork:
    def test_a_network_of_another_cluster_is_refused(self, settings):
        """On one network, every container of one cluster reaches the ports of the other."""
        problem = shared_network(NETWORKS, [service("dask_scheduler", "own", "n1")], settings())
        assert "caddyNetwork" == problem.key
        assert "'caddy-network' is the network of the cluster dask too" in problem.found
        assert problem.fix.endswith("pulumi config set caddyNetwork blue-caddy-network")
        assert "docker service update --network-add blue-caddy-network <caddy>" in problem.fix

    @pytest.mark.parametrize(
        "other",
        [
            service("blue_scheduler", "n1"),
            service("dask_scheduler", "n2"),
            service("edge_caddy", "n1", revision=None),
        ],
    )
    def test_the_clusters_own_services_and_caddy_are_no_problem(self, settings, other):
        """Nor is a cluster on another network."""
        assert shared_network(NETWORKS, [other], settings()) is None


class TestTakenPorts:
    def test_a_caddy_on_the_only_node_is_named(self, settings):
        """Swarm would never place the second, and its proof would fail minutes later."""
        caddy = service("dask_caddy", ports=(80, 443))
        tasks = [task(node["ID"]) | {"ServiceID": "dask_caddy-id"} for node in FIT]
        problem = taken_ports([caddy], tasks, NODES, settings(**MANAGED))
        assert "caddyMode" == problem.key
        assert (
            "managed, but dask_caddy has port 443 of data-1; dask_caddy has port 443 of data-2"
            in problem.found
        )
        assert "pulumi config set caddyMode external" == problem.fix

    def test_a_node_of_another_platform_is_not_free(self, settings):
        """Caddy's image has nothing for it."""
        caddy = service("dask_caddy", ports=(80, 443))
        nodes, tasks = [FIT[0], replace_platform(FIT[1], "aarch64")], [task(FIT[0]["ID"])]
        tasks = [task | {"ServiceID": "dask_caddy-id"} for task in tasks]
        assert taken_ports([caddy], tasks, nodes, settings(**MANAGED))
        assert taken_ports([caddy], tasks, nodes, settings(**MANAGED, platform=BOTH)) is None

    def test_a_port_of_the_routing_mesh_is_taken_on_every_node(self, settings):
        """It has no task of its own on most of them."""
        web = service("web", ports=(80,), mode="ingress", revision=None)
        problem = taken_ports([web], [], NODES, settings(**MANAGED))
        assert "web has port 80 of data-1; web has port 80 of data-2" in problem.found

    @pytest.mark.parametrize(
        ("other", "nodes", "config"),
        [
            (service("dask_caddy", ports=(80, 443)), FIT[:1], MANAGED),
            (service("blue_caddy", ports=(80, 443)), FIT, MANAGED),
            (service("web", ports=(8080,)), FIT, MANAGED),
            (service("vpn", ports=(443,), protocol="udp"), FIT, MANAGED),
            (service("dask_caddy", ports=(80, 443)), FIT, {}),
            (service("dask_caddy", ports=(80, 443)), [], MANAGED),
        ],
        ids=["a free node", "own", "other port", "udp", "not managed", "not running"],
    )
    def test_free_ports_are_no_problem(self, settings, other, nodes, config):
        """The cluster's own Caddy, other ports, and a node without the other service."""
        tasks = [task(node["ID"]) | {"ServiceID": other["ID"]} for node in nodes]
        assert taken_ports([other], tasks, NODES, settings(**config)) is None
