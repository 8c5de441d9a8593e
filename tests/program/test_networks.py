"""The cluster's network and the other networks of workers and notebook."""

import json
import re

import pytest

from tests.changes import MANAGED_CADDY
from tests.conftest import ROOT

NETWORK = "docker:index/network:Network"


def network_ids(program, name):
    """Return the ids of a service's networks."""
    networks = program.service(name)["taskSpec"]["networksAdvanceds"]
    return [network["id"] for network in networks]


def searches(program, name):
    """Return the networks where a service's names without a dot are looked up first."""
    return program.container(name).get("dnsConfig", {}).get("searches", [])


def cluster_network(program):
    """Return the declared networks of the cluster."""
    return [network for network in program.of_type(NETWORK) if "front" not in network.name]


def test_only_options_that_are_set_are_sent(run):
    """The networks of existing stacks stay as they are."""
    (plain,) = cluster_network(run())
    assert not {"options", "ipamConfigs"} & plain.inputs.keys()
    config = {"networkSubnet": "10.20.0.0/24", "networkMtu": "1400", "networkEncrypted": "true"}
    (network,) = cluster_network(run(**config))
    options = {"com.docker.network.driver.mtu": "1400", "encrypted": ""}
    assert (options, [{"subnet": "10.20.0.0/24"}]) == (
        network.inputs["options"],
        network.inputs["ipamConfigs"],
    )


def test_what_swarm_adds_to_a_network_is_no_change(run):
    """Only a change of the config that the Swarm's network does not have replaces it."""
    ignored = {"attachable", "labels", "options", "ipamConfigs"}
    requests = run(networkMtu="1400").requests
    assert ignored == {*requests["dask-network-overlay"].ignoreChanges}
    requests = run(networkMtu="1400", found={"replaces_network": True}).requests
    assert {"attachable", "labels"} == {*requests["dask-network-overlay"].ignoreChanges}


def test_a_default_that_replaces_an_option_is_sent(run):
    """Without any option, the provider would keep the old options."""
    (network,) = cluster_network(run(found={"replaces_network": True}))
    assert {"com.docker.network.driver.mtu": "1500"} == network.inputs["options"]


@pytest.mark.parametrize(
    "name", ["dask-scheduler", "dask-workers", "dask-notebook", "dask-prefect"]
)
def test_services_are_replaced_together_with_their_network(run, name):
    """Otherwise the network could not be removed."""
    requests = run(prefect="managed").requests
    (urn,) = requests[f"{name}-service"].replace_with
    assert urn.endswith("::dask-network-overlay")


def test_the_network_is_removed_after_its_tasks_have_ended(run):
    """The release is deleted after the services and before the network."""
    program = run()
    assert "dask-network-overlay" in program.dependencies("dask-network-overlay-release")
    assert "dask-network-overlay-release" in program.dependencies("dask-workers-service")
    release = program.command("dask-network-overlay-release").inputs
    assert "create" not in release
    assert release["delete"].endswith("python -m swarm.release")
    assert ["dask-network-overlay-id"] == release["triggers"]


def test_an_external_network_is_not_declared(run):
    """It is neither replaced nor removed; services join it by its id."""
    program = run(networkMode="external")
    assert [] == cluster_network(program)
    assert "dask-network-id" in network_ids(program, "dask_worker")
    assert [] == json.loads(program.command("dask-shutdown-run").inputs["stdin"])["networks"]


def test_the_shutdown_knows_the_networks_that_will_be_removed(run):
    """Caddy's network too, if the stack has made it."""
    config = {"caddyMode": "managed", "domain": "localhost", "auth": "none"}
    request = json.loads(run(**config).command("dask-shutdown-run").inputs["stdin"])
    assert ["dask-network-overlay-id", "front-network-id"] == request["networks"]
    request = json.loads(run().command("dask-shutdown-run").inputs["stdin"])
    assert ["dask-network-overlay-id"] == request["networks"]


def test_workers_notebook_and_probe_join_the_other_networks(run):
    """Names without a dot are looked up on the cluster's network first."""
    program = run(networks='["minio", "postgres"]', prefect="managed")
    others = ["minio-id", "postgres-id"]
    assert ["dask-network-overlay-id", *others] == network_ids(program, "dask_worker")
    assert others == network_ids(program, "dask_notebook")[-2:]
    assert ["dask-network"] == searches(program, "dask_worker")
    assert ["dask-network"] == searches(program, "dask_notebook")
    for name in ("dask_scheduler", "dask_prefect"):
        assert not {*others} & {*network_ids(program, name)}
    request = json.loads(program.command("dask-health-run").inputs["stdin"])
    assert others == request["other_network_ids"]


def test_the_page_on_security_names_the_services_on_other_networks(run):
    """Their rows say who else reaches them."""
    page = (ROOT / "docs" / "security.md").read_text()
    rows = re.findall(r"(?m)^\| `(dask_\w+):\d+` \| (.*?) \|", page)
    program = run(networks='["minio"]', prefect="managed", **MANAGED_CADDY)
    joined = {name for name, _ in rows if "minio-id" in network_ids(program, name)}
    assert joined == {name for name, reach in rows if "the networks of `networks`" in reach}


def test_workers_on_one_network_have_no_search_domain(run):
    """A change of their DNS would restart the workers of existing stacks."""
    assert [] == searches(run(), "dask_worker")
