"""The cluster's network with its options, and services on other networks."""

from contextlib import contextmanager

import pytest
from docker import types

from tests.conftest import wait_for
from tests.swarm.conftest import RUNNERS, cluster_services
from tests.swarm.containers import notebook_container, run_in

# Its name comes before `dask-network`, so that a container may prefer its addresses.
OTHER = "a-network"
SUBNET = "10.201.0.0/24"
MTU = 1400
SERVER = ("python", "-m", "http.server", "8000")
# A worker and its nanny must be on the cluster's network, and reach the service by its name.
REACH = """
import ipaddress, sys
from urllib.request import urlopen
from dask.distributed import Client
url, subnet = sys.argv[1], ipaddress.ip_network(sys.argv[2])
assert 200 == urlopen(url, timeout=10).status
with Client("scheduler:8786", timeout="20s") as client:
    assert {200} == {*client.run(lambda: urlopen(url, timeout=10).status).values()}
    workers = client.scheduler_info(n_workers=-1)["workers"]
    assert len(workers) == len(client.run(lambda: 1, nanny=True))
    addresses = [*workers, *(worker["nanny"] for worker in workers.values())]
    hosts = [address.rpartition("/")[2].rpartition(":")[0] for address in addresses]
    assert all(ipaddress.ip_address(host) in subnet for host in hosts), hosts
"""


@contextmanager
def network(swarm, name, **options):
    """Create an overlay network, and remove it once nothing is on it."""
    created = swarm.networks.create(name, driver="overlay", **options)
    try:
        yield created
    finally:
        wait_for(f"removal of {name}", lambda: removed(created), 60)


def removed(resource):
    """Remove a network, and return whether no task has kept it."""
    try:
        resource.remove()
    except Exception:
        return False
    return True


@contextmanager
def attached(swarm, images, name, network_id, *aliases, args=("sleep", "600"), **options):
    """Run a service of another stack on a network."""
    service = swarm.services.create(
        images["image"], args=[*args], name=name, stop_grace_period=10**9, init=True,
        networks=[{"Target": network_id, "Aliases": [*aliases]}],
        endpoint_spec=types.EndpointSpec(mode="dnsrr"), **options,
    )  # fmt: skip
    try:
        wait_for(f"service {name}", lambda: states(service) == {"running"})
        yield
    finally:
        service.remove()
        wait_for(f"end of {name}", lambda: not ending_tasks(swarm, network_id))


def ending_tasks(swarm, network_id):
    """Return the tasks of removed services that still keep a network."""
    return [
        task
        for task in swarm.api.tasks()
        if network_id in [a["Network"]["ID"] for a in task.get("NetworksAttachments") or []]
        and task["DesiredState"] == "remove"
    ]


def states(service):
    """Return the states of the tasks that a service should have."""
    tasks = service.tasks(filters={"desired-state": "running"})
    return {task["Status"]["State"] for task in tasks}


def dask_network(swarm):
    """Return the cluster's network."""
    (found,) = swarm.networks.list(names=["dask-network"])
    return found.attrs


# Before the tests with a deployment, which has this network.
def test_a_network_made_by_hand_is_used_and_stays(new_deployment, swarm):
    """A managed stack refuses it before anything changes; an external stack never touches it."""
    pool = types.IPAMPool(subnet="10.202.0.0/24")
    ipam = types.IPAMConfig(pool_configs=[pool])
    deployment = new_deployment("rehearsal")
    with network(swarm, "dask-network", ipam=ipam) as made:
        printed = deployment.fail("up")
        assert "pulumi config set networkMode external" in printed
        deployment.configure(workers=1, networkMode="external", proof="quick")
        deployment.run("up")
        deployment.run("destroy")
        assert made.id == dask_network(swarm)["Id"]


@pytest.fixture(scope="module", params=RUNNERS)
def deployment(request, deployed, swarm, images, control_host):
    """Return a small deployment on another network too, where a foreign `scheduler` is."""
    config = {"workers": 2, "networks": [OTHER], "networkSubnet": SUBNET}
    with (
        network(swarm, OTHER) as other,
        attached(swarm, images, "files", other.id, "scheduler", args=SERVER),
        deployed(request.param, control_host, **config) as deployment,
    ):
        yield deployment


def test_workers_and_notebook_reach_a_service_on_another_network(deployment, lab, swarm):
    """By its name, while workers and nannies keep to the cluster's network."""
    assert SUBNET == dask_network(swarm)["IPAM"]["Config"][0]["Subnet"]
    with notebook_container(lab) as container:
        run_in(container, "python", "-c", REACH, "http://files:8000", SUBNET)


def test_a_foreign_service_stops_the_destroy_before_it_ends_anything(deployment, swarm, images):
    """The message names the service and its cure, and all tasks go on."""
    before = {service.id: service.attrs["Spec"] for service in cluster_services(swarm)}
    with attached(swarm, images, "foreign", dask_network(swarm)["Id"]):
        printed = deployment.fail("destroy")
    assert "dask-network: in use by foreign, so it cannot be removed" in printed
    assert "docker service update --network-rm dask-network foreign" in printed
    assert before == {service.id: service.attrs["Spec"] for service in cluster_services(swarm)}


def test_changed_options_replace_the_network_in_one_up(deployment, swarm, images):
    """The warning announces the outage, a foreign service prevents it, and the proof ends it."""
    if deployment.runner.name == "rehearsal":
        pytest.skip("the rehearsal replaces no networks")
    config = {"workers": 2, "networks": [OTHER], "networkSubnet": SUBNET, "networkMtu": MTU}
    deployment.configure(**config)
    before = dask_network(swarm)["Id"]
    with attached(swarm, images, "foreign", before):
        printed = deployment.fail("up")
    assert "in use by the services foreign, which are not this stack's" in printed
    assert before == dask_network(swarm)["Id"]
    printed = deployment.run("up")
    assert "networkMtu 1500 becomes 1400: dask-network and all services on it are" in printed
    assert str(MTU) == dask_network(swarm)["Options"]["com.docker.network.driver.mtu"]
    assert SUBNET == dask_network(swarm)["IPAM"]["Config"][0]["Subnet"]
    deployment.run("preview", "--refresh", "--expect-no-changes")
