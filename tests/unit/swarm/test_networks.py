"""When the cluster's network can be created, adopted or replaced."""

import pytest

from config.settings import parse_settings
from swarm.manager import PROBE_LABELS
from swarm.networks import (
    OWNER_LABEL,
    Networks,
    changes,
    check,
    outage,
    services_on,
    virtual_ip_causes,
)

OWN = ["dask_scheduler", "dask_worker"]
MTU = "com.docker.network.driver.mtu"


def network(name, *ranges, **changed):
    """Return a network of the Swarm as the API describes it."""
    config = [{"Subnet": range_} for range_ in ranges]
    plain = {"Id": f"{name}-id", "Name": name, "Scope": "swarm", "Driver": "overlay"}
    return plain | {"IPAM": {"Config": config}} | changed


def service(name, *networks):
    """Return a service on networks."""
    targets = [{"Target": f"{network}-id"} for network in networks]
    return {"Spec": {"Name": name, "TaskTemplate": {"Networks": targets}}}


def node(address, manager=None):
    """Return a node with an address, and the manager's address if it is a manager."""
    status = {"ManagerStatus": {"Addr": f"{manager}:2377"}} if manager else {}
    return {
        "ID": address,
        "Description": {"Hostname": "one"},
        "Status": {"Addr": address},
    } | status


@pytest.fixture
def problems(defaults):
    """Return a function that returns the problems of a config on a Swarm."""

    def find(known, **config):
        settings = parse_settings(defaults | config, (), {})
        return list(check(known, settings.network, OWN))

    return find


def swarm(*networks, services=(), nodes=(), pools=("10.0.0.0/8",)):
    """Return a Swarm with its ingress network and others."""
    ingress = network("ingress", "10.0.0.0/24")
    return Networks(
        networks=[ingress, *networks], services=services, nodes=nodes, pools=list(pools)
    )


OURS = network("dask-network", "10.0.1.0/24", Labels={OWNER_LABEL: "1"})
BY_HAND = network("dask-network", "10.0.1.0/24")


@pytest.mark.parametrize(
    ("known", "found"),
    [
        (swarm(nodes=[node("10.20.0.7")]), "overlaps the node one (10.20.0.7)"),
        (swarm(nodes=[node("0.0.0.0", "10.20.0.7")]), "overlaps the node one (10.20.0.7)"),
        (swarm(network("web", "10.20.0.0/16")), "overlaps the network web (10.20.0.0/16)"),
        (
            swarm(network("bridge", "10.20.0.128/25", Scope="local")),
            "overlaps the network bridge (10.20.0.128/25)",
        ),
    ],
    ids=["node", "manager", "overlay", "bridge"],
)
def test_a_subnet_that_others_use_is_refused(problems, known, found):
    """The fix is a range far from all of them."""
    (problem,) = problems(known, networkSubnet="10.20.0.0/24")
    assert f"10.20.0.0/24, which {found}" == problem.found
    assert "pulumi config set networkSubnet 10.64.0.0/24" == problem.fix
    assert [] == problems(known, networkSubnet="10.21.0.0/24")


@pytest.mark.parametrize(
    ("known", "range_"),
    [
        (swarm(nodes=[node("10.0.1.7")]), "10.0.1.0/24"),
        (swarm(network("a", "10.0.7.0/24"), nodes=[node("10.0.1.7")]), "10.0.1.0/24"),
        (swarm(network("a", "10.0.7.0/24"), nodes=[node("10.0.8.7")]), "10.0.8.0/24"),
        (swarm(nodes=[node("10.9.1.7")], pools=["10.9.0.0/23"]), "10.9.1.0/24"),
    ],
)
def test_a_range_that_swarm_may_choose_is_refused_if_a_node_is_in_it(problems, known, range_):
    """Swarm takes the first free range, or the range after the last that it has taken."""
    if known.pools == ["10.9.0.0/23"]:
        taken = network("b", "10.9.0.0/24")
        known = Networks(networks=[taken], nodes=known.nodes, pools=known.pools)
    (problem,) = problems(known)
    assert "networkSubnet" == problem.key
    assert problem.found.startswith(f"not set, and Swarm may choose {range_}, which overlaps")
    assert "pulumi config set networkSubnet 10.64.0.0/24" == problem.fix
    assert [] == problems(known, networkSubnet="10.64.0.0/24")


def test_addresses_elsewhere_in_the_pool_are_no_problem(problems):
    """Most Swarms have nodes there; IPv6 addresses and ranges cannot overlap."""
    nodes = [node("10.77.0.11", "10.77.0.11"), node("fd00::1"), node("")]
    known = swarm(network("v6", "fd00::/64"), network("none"), nodes=nodes)
    assert [] == problems(known)


def test_an_existing_network_of_the_stack_stays_with_its_range(problems):
    """It works, even if a node has joined with an address in it."""
    assert [] == problems(swarm(OURS, nodes=[node("10.0.1.7")]))


@pytest.mark.parametrize(
    "other", [BY_HAND | {"Name": "dask-network-2"}, BY_HAND | {"Scope": "local"}]
)
def test_another_network_is_not_the_clusters(problems, other):
    """Its name begins with the same text, or only the manager has it."""
    assert [] == problems(swarm(other))


def test_a_network_made_by_hand_needs_the_users_word(problems):
    """It is neither replaced nor a surprise in the middle of the deployment."""
    (problem,) = problems(swarm(BY_HAND, services=[service("minio", "dask-network")]))
    assert "networkMode" == problem.key
    assert "dask-network exists already, and no service of this stack uses it" in problem.found
    fix = "pulumi config set networkMode external, or docker network rm dask-network"
    assert fix == problem.fix
    assert [] == problems(swarm(BY_HAND), networkMode="external")


def test_an_adopted_network_has_services_of_the_stack(problems):
    """It has no label, since a network's labels cannot be changed."""
    assert [] == problems(swarm(BY_HAND, services=[service("dask_worker", "dask-network")]))


def test_an_external_network_must_not_be_a_stacks(problems):
    """Its stack would remove it."""
    (problem,) = problems(swarm(OURS), networkMode="external")
    assert "external, but a stack of this program has created dask-network" == problem.found


def test_an_external_network_whose_range_overlaps_is_refused(problems):
    """The fix makes it again."""
    known = swarm(BY_HAND, nodes=[node("10.0.1.7")])
    (problem,) = problems(known, networkMode="external")
    assert problem.found.startswith("dask-network has 10.0.1.0/24, which overlaps the node one")
    assert "--subnet 10.64.0.0/24 dask-network" in problem.fix


def test_a_network_with_foreign_services_is_not_replaced(problems):
    """They are named with the commands by which they leave."""
    users = [service(name, "dask-network") for name in ("dask_worker", "minio", "web")]
    (problem,) = problems(swarm(OURS, services=users), networkMtu="1400")
    assert "in use by the services minio, web, which are not this stack's" in problem.found
    assert problem.fix.count("docker service update --network-rm dask-network ") == 2
    assert [] == problems(swarm(OURS, services=users))


def test_a_new_range_of_an_existing_network_is_checked(problems):
    """It is another network then."""
    known = swarm(OURS, nodes=[node("10.20.0.7")])
    (problem,) = problems(known, networkSubnet="10.20.0.0/24")
    assert "10.20.0.0/24, which overlaps the node one (10.20.0.7)" == problem.found


@pytest.mark.parametrize(
    ("options", "config", "expected"),
    [
        ({}, {}, []),
        ({}, {"networkMtu": "1400"}, ["networkMtu 1500 becomes 1400"]),
        ({MTU: "1400"}, {"networkMtu": "1400"}, []),
        ({MTU: "1400"}, {}, ["networkMtu 1400 becomes 1500"]),
        ({"encrypted": ""}, {}, ["networkEncrypted true becomes false"]),
        ({}, {"networkEncrypted": "true"}, ["networkEncrypted false becomes true"]),
        ({}, {"networkSubnet": "10.0.1.0/24"}, []),
        ({}, {"networkSubnet": "10.9.0.0/24"}, ["networkSubnet 10.0.1.0/24 becomes 10.9.0.0/24"]),
    ],
)
def test_a_change_of_the_options_is_an_outage(defaults, options, config, expected):
    """The warning names it; without a subnet the network keeps its range."""
    settings = parse_settings(defaults | config, (), {}).network
    ours = OURS | {"Options": options}
    assert expected == changes(ours, settings)
    warning = "".join(outage(swarm(ours), settings))
    assert bool(expected) == ("The cluster is down meanwhile" in warning)
    assert all(change in warning for change in expected)


def test_an_adopted_network_keeps_options_that_are_not_set(defaults):
    """Its stack file had set them; a key of the config changes them."""
    adopted = BY_HAND | {"Options": {MTU: "1400", "encrypted": ""}}
    assert [] == changes(adopted, parse_settings(defaults, (), {}).network)
    settings = parse_settings(defaults | {"networkMtu": "1300"}, (), {}).network
    assert "networkMtu 1400 becomes 1300" in changes(adopted, settings)


def test_the_service_of_a_probe_does_not_keep_a_network():
    """Its launcher, its reaper or the shutdown removes it."""
    probe = service("dask_health-1", "n")
    probe["Spec"]["Labels"] = {**PROBE_LABELS, "dask.swarm/deadline": "1"}
    assert ["minio"] == services_on([probe, service("minio", "n")], "n-id")


def test_services_of_old_clients_name_their_networks_elsewhere():
    """Docker's API once had them beside the task template."""
    old = {"Spec": {"Name": "old", "TaskTemplate": {}, "Networks": [{"Target": "1"}]}}
    assert ["old"] == services_on([old], "1")


BUCKET = "a worker could not write s3://data/1 at http://minio:9000: {}; check s3Endpoint"
FLOW = "expected http://minio:4200/api/health to answer 200, found {} for 30 s"


@pytest.mark.parametrize(
    ("message", "mode", "named"),
    [
        (BUCKET.format("ClientConnectorError: Cannot connect to host minio:9000"), "vip", True),
        (FLOW.format("no answer ([Errno 113] No route to host)"), "vip", True),
        (FLOW.format("no answer ([Errno 113] No route to host)"), "dnsrr", False),
        (FLOW.format("an answer of 404"), "vip", False),
        (FLOW.format("no answer").replace("minio", "min"), "vip", False),
    ],
)
def test_a_virtual_ip_that_does_not_answer_is_named(message, mode, named):
    """By the service's name or an alias on one of its networks."""
    alias = {"Target": "1", "Aliases": ["minio"]}
    spec = {"Name": "store_minio", "TaskTemplate": {"Networks": [alias]}}
    service = {"Spec": spec, "Endpoint": {"Spec": {"Mode": mode}}}
    lines = virtual_ip_causes(message, lambda: [service])
    assert (2 if named else 0) == len(lines)
    text = "\n".join(lines)
    assert named == ("minio is the virtual IP of the service store_minio" in text)
    assert named == ("docker service update --endpoint-mode dnsrr store_minio" in text)
