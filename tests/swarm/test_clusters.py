"""Two clusters on one Swarm: neither reaches the other, or changes it."""

from contextlib import closing
from itertools import product

import docker
import pytest

from tests.swarm import derived
from tests.swarm.conftest import RUNNERS, leftovers
from tests.swarm.containers import containers_of, run_in
from tests.swarm.ingress import MANAGED_CADDY

OTHER, NETWORK = "dask-blue", "dask-blue-caddy-network"
SMALL = {"workers": 1, "workerCpus": "0.25", "workerMemory": "512MiB", "proof": "quick"}
JOINED = SMALL | {"clusterName": OTHER, "caddyNetwork": NETWORK}
ROLES = ("scheduler", "worker", "notebook")
PORTS = (8786, 8787, 8888)
# Prints which of the places on the command line accept a connection.
REACH = """
import socket, sys
from concurrent.futures import ThreadPoolExecutor

def is_open(place):
    host, port = place.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=3).close()
    except OSError:
        return False
    return True

places = sys.argv[1:]
with ThreadPoolExecutor(len(places)) as pool:
    print(*(place for place, found in zip(places, pool.map(is_open, places)) if found))
"""


@pytest.fixture(scope="module")
def default(deployed):
    """Return a small cluster with the default name, which runs Caddy."""
    with deployed(RUNNERS[-1], **SMALL | MANAGED_CADDY) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def other(default, new_deployment, swarm):
    """Return another cluster, which is not deployed yet, and its network with another Caddy."""
    network = swarm.networks.create(NETWORK, driver="overlay")
    deployment = new_deployment(RUNNERS[-1], stack="blue")
    yield deployment
    deployment.run("destroy")
    network.remove()


@pytest.fixture(scope="module")
def both(default, other):
    """Return both clusters, deployed."""
    other.configure(**JOINED)
    other.run("up")
    return default, other


def tasks_of(swarm, cluster):
    """Return the ids of the tasks that a cluster should be running."""
    services = [s for s in swarm.services.list() if s.name.startswith(f"{cluster}_")]
    return {task["ID"] for s in services for task in s.tasks({"desired-state": "running"})}


def places(lab, cluster, node):
    """Return the names and addresses of a cluster's services as a node's containers see them."""
    names = [f"{cluster}_{role}" for role in ROLES]
    hosts = {prefix + name for name in names for prefix in ("", "tasks.")}
    hosts |= {f"{name}.{cluster}-network" for name in names}
    for _, engine, container in containers(lab, names):
        networks = container.attrs["NetworkSettings"]["Networks"].values()
        hosts |= {network["IPAddress"] for network in networks}
        # Each node has such a bridge, with the same addresses.
        if engine.info()["Name"] == node:
            hosts.add(gateway(engine, container))
    return [f"{host}:{port}" for host, port in product(sorted(hosts), PORTS)]


def containers(lab, names):
    """Yield the name, the engine and the container of each task of the named services."""
    for node in lab.nodes:
        with closing(docker.DockerClient(node.docker_host)) as engine:
            for name in names:
                yield from ((name, engine, found) for found in containers_of(engine, name))


def gateway(engine, container):
    """Return a container's address on the bridge by which it leaves its node."""
    sandbox = container.attrs["NetworkSettings"]["SandboxID"][:12]
    ends = engine.networks.get("docker_gwbridge").attrs["Containers"].values()
    (address,) = [end["IPv4Address"] for end in ends if end["Name"] == f"gateway_{sandbox}"]
    return address.partition("/")[0]


@pytest.mark.parametrize(
    ("config", "problem", "fix"),
    [
        (
            MANAGED_CADDY | {"caddyNetwork": NETWORK},
            "caddyMode: managed, but dask_caddy has port 443 of lab-master",
            "pulumi config set caddyMode external",
        ),
        (
            {"caddyNetwork": "dask-caddy-network"},
            "caddyNetwork: 'dask-caddy-network' is the network of the cluster dask too",
            "pulumi config set caddyNetwork dask-blue-caddy-network",
        ),
    ],
)
def test_what_two_clusters_cannot_share_is_refused(other, swarm, config, problem, fix):
    """Before anything changes, with the name of the other cluster."""
    before = leftovers(swarm)
    other.configure(**SMALL | {"clusterName": OTHER} | config)
    printed = other.fail("up")
    assert problem in printed
    assert fix in printed
    assert "Nothing was changed." in printed
    assert before == leftovers(swarm)


def test_a_failed_up_changes_nothing_of_the_other_cluster(default, other, swarm, lab, images):
    """Its tasks keep running, and it is still proven."""
    before = tasks_of(swarm, "dask")
    image = derived.that_dies(lab.docker_host, images["image"])
    other.configure(**JOINED | {"image": image, "healthDeadline": 60})
    assert f"{OTHER}_worker.1" in other.fail("up")
    assert before == tasks_of(swarm, "dask")


def test_both_clusters_are_proven(both):
    """Each counts its own worker only."""
    assert [1, 1] == [cluster.runner.outputs()["health"]["workers"] for cluster in both]


@pytest.mark.parametrize(("source", "target"), [("dask", OTHER), (OTHER, "dask")])
def test_neither_cluster_reaches_the_ports_of_the_other(both, lab, source, target):
    """By name or address, from every service; its own scheduler it reaches."""
    own = f"{source}_scheduler.{source}-network:8786"
    names = [f"{source}_{role}" for role in ROLES]
    found = {}
    for name, engine, container in containers(lab, names):
        foreign = places(lab, target, engine.info()["Name"])
        found[name] = run_in(container, "python", "-c", REACH, own, *foreign).split()
    assert {name: [own] for name in names} == found


def test_a_destroy_leaves_the_other_cluster_as_it_is(both, swarm):
    """The tasks of the default cluster stay, and nothing of the destroyed cluster."""
    default, other = both
    before = tasks_of(swarm, "dask")
    other.run("destroy")
    assert [NETWORK] == [name for name in leftovers(swarm) if name.startswith(OTHER)]
    assert before == tasks_of(swarm, "dask")
    records = [config.name for config in swarm.configs.list() if "-health-proven-" in config.name]
    assert [True] == [name.startswith("dask-health-proven-") for name in records]
    default.run("up")
    assert before == tasks_of(swarm, "dask")
