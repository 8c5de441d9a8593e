"""Whether what is to be deployed finds room on the nodes, and what helps where it does not."""

import pytest

from config.settings import parse_settings
from swarm.capacity import demands, shortages

GIB = 2**30


def node(name, role="data-worker", cpus=2, memory=4, availability="active", state="ready"):
    """Return a node as `GET /nodes` describes it."""
    return {
        "ID": name,
        "Spec": {"Labels": {"role": role}, "Role": "worker", "Availability": availability},
        "Status": {"State": state},
        "Description": {
            "Hostname": name,
            "Platform": {"OS": "linux", "Architecture": "x86_64"},
            "Resources": {"NanoCPUs": int(cpus * 10**9), "MemoryBytes": int(memory * GIB)},
        },
    }


def task(name, cpus=0, memory=0):
    """Return a running task of another service that has reserved so much of a node."""
    reserved = {"NanoCPUs": int(cpus * 10**9), "MemoryBytes": int(memory * GIB)}
    return {
        "NodeID": name,
        "DesiredState": "running",
        "Spec": {"Resources": {"Reservations": reserved}},
    }


def newcomer():
    """Return a node that has its certificate and has not connected yet; perhaps it never does."""
    return node("n4w", state="unknown") | {"Description": {"Platform": {}, "Resources": {}}}


NODES = [node("master", "master"), node("data-1"), node("data-2")]


@pytest.fixture
def missing(defaults):
    """Return a function from config, nodes and tasks to what is missing."""

    def ask(nodes=NODES, tasks=(), **config):
        settings = parse_settings(defaults | config, (), {})
        return shortages(demands(settings), settings.platform, nodes, tasks)

    return ask


@pytest.mark.parametrize("placement", ["node.labels.role==data-worker", "node.role==worker"])
def test_a_node_that_has_told_nothing_of_itself_is_no_obstacle(missing, placement):
    """Nor is it of a wrong platform: where it is needed, it is named."""
    assert not missing(nodes=[*NODES, newcomer()], workerPlacement=placement)
    (problem,) = missing(nodes=[NODES[0], newcomer()])
    assert "n4w is unknown, active" in problem


def test_the_defaults_fit_three_small_nodes(missing):
    """Two workers on each data node, scheduler and notebook on the master."""
    assert [] == missing()


def test_more_workers_than_nodes_take_are_refused_with_the_number_that_helps(missing):
    """The nodes would have the CPUs: it is the limit of a node that has to be raised."""
    (line,) = missing(workers="5")
    assert "workers: 5 have no room: each reserves 0.5 CPU and 1GiB" in line
    assert "at most workersPerNode 2" in line
    assert "Allowed is at most 4 of this size" in line
    assert line.endswith("pulumi config set workersPerNode 3")


def test_what_others_have_reserved_is_not_there(missing):
    """Memory of another service's task leaves room for one worker less."""
    (line,) = missing(tasks=[task("data-1", memory=2.5), task("master", memory=3)])
    assert "data-1 has 2 CPU and 1.5GiB unreserved; data-2 has 2 CPU and 4GiB unreserved" in line
    assert line.endswith("pulumi config set workersPerNode 3")


def test_fewer_workers_are_the_cure_where_nothing_else_is(missing):
    """No node has anything left for one more."""
    (line,) = missing(tasks=[task("data-1", cpus=1.5), task("data-2", cpus=1.5)])
    assert line.endswith("pulumi config set workers 2")


@pytest.mark.parametrize(
    ("config", "cure"),
    [
        ({"workerMemory": "1TiB"}, "pulumi config set workerMemory 2048MiB"),
        ({"workerCpus": "4"}, "pulumi config set workerCpus 1"),
    ],
)
def test_a_size_that_no_node_has_is_refused_with_one_that_fits(missing, config, cure):
    """The cure lets all workers in, as many on a node as have to be."""
    (line,) = missing(**config)
    assert "Allowed is what a node has left" in line
    assert line.endswith(cure)
    key, value = cure.split()[-2:]
    assert [] == missing(**{key: value})


def test_a_missing_label_is_named_with_its_cure(missing):
    """Once, whichever services want it."""
    (line,) = missing(controlPlacement="node.labels.role==boss")
    assert "controlPlacement: no node carries label role=boss; data-1 has role=data-worker" in line
    assert line.endswith("docker node update --label-add role=boss <node>")


@pytest.mark.parametrize(
    ("away", "cure"),
    [
        ({"availability": "drain"}, "docker node update --availability active data-2"),
        ({"state": "down"}, "sudo systemctl start docker, on data-2"),
    ],
)
def test_a_node_that_takes_nothing_is_named(missing, away, cure):
    """It would have room: bringing it back is the cure."""
    (line,) = missing(nodes=[*NODES[:2], node("data-2", **away)])
    assert "data-2 is" in line
    assert "Allowed is at most 2 of this size" in line
    assert line.endswith(cure)


def test_a_full_master_is_named(missing):
    """Scheduler and notebook need little, but something."""
    (line, *_) = missing(tasks=[task("master", memory=3.9)])
    assert "controlPlacement: dask_scheduler has no room: it reserves 0.1 CPU and 256MiB" in line
    assert line.endswith("docker node ps master")


def test_a_prefect_server_takes_room_too(missing):
    """It shares the master with scheduler and notebook."""
    full = [task("master", memory=3.5)]
    assert [] == missing(tasks=full)
    (line,) = missing(tasks=full, prefect="managed")
    assert "controlPlacement: dask_prefect has no room" in line


def test_services_of_one_node_share_it(missing):
    """On a single node the small ones come first and the workers get the rest."""
    alone = node("laptop", "data-worker", cpus=2.25, memory=8)
    config = {"controlPlacement": "node.role==worker", "workersPerNode": "4"}
    assert [] == missing(nodes=[alone], **config)
    config |= {"caddyMode": "managed", "domain": "localhost", "auth": "basic"}
    (line,) = missing(nodes=[alone], **config)
    assert line.endswith("pulumi config set workers 3")


def test_another_platform_is_named(missing):
    """The nodes' own names for it are translated."""
    arm = [replace_platform(each, "aarch64") for each in NODES]
    assert [] == missing(nodes=arm, platform="linux/arm64")
    lines = missing(nodes=arm)
    assert "platform: linux/amd64 is not what the nodes of workerPlacement are" in lines[-1]
    assert lines[-1].endswith("pulumi config set platform linux/arm64")


def replace_platform(described, machine):
    description = described["Description"] | {
        "Platform": {"OS": "linux", "Architecture": machine},
    }
    return described | {"Description": description}
