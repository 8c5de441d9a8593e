"""Whether the nodes have room for the stack, and the fix where they have not."""

import pytest

from config.settings import parse_settings
from config.workloads import workloads
from swarm.capacity import Room, shortages, update_shortages

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
    """Return a running task of another service that reserves so much of a node."""
    reserved = {"NanoCPUs": int(cpus * 10**9), "MemoryBytes": int(memory * GIB)}
    return {
        "NodeID": name,
        "DesiredState": "running",
        "Spec": {"Resources": {"Reservations": reserved}},
    }


def newcomer():
    """Return a node that has its certificate but has not connected yet."""
    return node("n4w", state="unknown") | {"Description": {"Platform": {}, "Resources": {}}}


NODES = [node("master", "master"), node("data-1"), node("data-2")]


@pytest.fixture
def missing(defaults):
    """Return a function from config, nodes and tasks to the shortages."""

    def find(nodes=NODES, tasks=(), **config):
        return shortages(*stack_and_room(defaults, nodes, tasks, config))

    return find


@pytest.fixture
def stuck(defaults):
    """Return a function from config, nodes and tasks to the updates that have no room."""

    def find(nodes=NODES, tasks=(), **config):
        stack, room = stack_and_room(defaults, nodes, tasks, config)
        assert [] == shortages(stack, room)
        return update_shortages(stack, room)

    return find


def stack_and_room(defaults, nodes, tasks, config):
    """Return the workloads, and what `tasks` leave of the nodes."""
    settings = parse_settings(defaults | config, (), {})
    return workloads(settings), Room.of(settings.cluster.platforms, nodes, tasks)


def test_a_node_with_more_reserved_than_it_has_takes_nothing(missing):
    """Its memory may have shrunk; the others have room for all."""
    others = [task("data-1", memory=5)]
    assert not missing(tasks=others, workers="2")
    assert missing(tasks=others, workers="3")


@pytest.mark.parametrize("placement", ["node.labels.role==data-worker", "node.role==worker"])
def test_a_node_without_a_description_is_tolerated(missing, placement):
    """Its platform is not wrong; the message names the node where it is needed."""
    assert not missing(nodes=[*NODES, newcomer()], workerPlacement=placement)
    (problem,) = missing(nodes=[NODES[0], newcomer()])
    assert "n4w is unknown, active" in problem.found


def test_the_defaults_fit_three_small_nodes(missing):
    """Two workers on each data node, scheduler and notebook on the master."""
    assert [] == missing()


def test_more_workers_than_nodes_take_are_refused_with_the_number_that_helps(missing):
    """The nodes have the CPUs: the fix raises the limit of workers on a node."""
    (problem,) = missing(workers="5")
    assert "workers" == problem.key
    assert "5 workers have no room; each reserves 0.5 CPU and 1GiB" in problem.found
    assert "at most workersPerNode 2" in problem.found
    assert "at most 4 of this size" == problem.expected
    assert "pulumi config set workersPerNode 3" == problem.fix


def test_resources_that_other_services_reserve_are_not_free(missing):
    """The memory of another service's task leaves room for one worker less."""
    (problem,) = missing(tasks=[task("data-1", memory=2.5), task("master", memory=3)])
    nodes = "data-1 has 2 CPU and 1.5GiB unreserved; data-2 has 2 CPU and 4GiB unreserved"
    assert nodes in problem.found
    assert "pulumi config set workersPerNode 3" == problem.fix


def test_the_last_fix_is_fewer_workers(missing):
    """No node has room for another worker."""
    (problem,) = missing(tasks=[task("data-1", cpus=1.5), task("data-2", cpus=1.5)])
    assert "pulumi config set workers 2" == problem.fix


@pytest.mark.parametrize(
    ("config", "fix"),
    [
        ({"workerMemory": "1TiB"}, "pulumi config set workerMemory 2048MiB"),
        ({"workerCpus": "4"}, "pulumi config set workerCpus 1"),
    ],
)
def test_a_size_that_no_node_has_is_refused_with_a_size_that_fits(missing, config, fix):
    """The fix makes room for all workers."""
    (problem,) = missing(**config)
    assert "a size that a node has left" == problem.expected
    assert fix == problem.fix
    key, value = fix.split()[-2:]
    assert [] == missing(**{key: value})


OVERCOMMITTED = {"workerReservedCpus": "0.1", "workerReservedMemory": "256MiB"}


def test_workers_that_overcommit_need_only_what_they_reserve(missing):
    """Four workers of 1 GiB fit where 1 GiB is left; what they reserve must be there."""
    tasks = [task("data-1", cpus=1.8, memory=3.5), task("data-2", cpus=1.8, memory=3.5)]
    assert missing(tasks=tasks)
    assert [] == missing(tasks=tasks, **OVERCOMMITTED)
    (problem,) = missing(tasks=[*tasks, task("data-2", memory=0.1)], **OVERCOMMITTED)
    assert "each reserves 0.1 CPU and 256MiB" in problem.found


@pytest.mark.parametrize(
    ("config", "fix"),
    [
        ({"workerReservedMemory": "2GiB", "workerMemory": "4GiB"}, "workerReservedMemory 768MiB"),
        ({"workerReservedCpus": "1", "workerCpus": "2"}, "workerReservedCpus 0.25"),
    ],
)
def test_the_fix_for_workers_that_overcommit_is_a_smaller_reservation(missing, config, fix):
    """Their limit is not what takes the room."""
    others = [task(name, cpus=1.5, memory=2.5) for name in ("data-1", "data-2")]
    (problem,) = missing(tasks=others, **config)
    assert f"pulumi config set {fix}" == problem.fix


@pytest.mark.parametrize(
    ("config", "found", "fix"),
    [
        ({"workerCpus": "2.5"}, "2.5, but data-1 has 2", "workerCpus 2"),
        ({"workerMemory": "5GiB"}, "5120MiB, but data-1 has 4096MiB", "workerMemory 4096MiB"),
    ],
)
def test_a_limit_beyond_a_whole_node_is_refused(missing, config, found, fix):
    """A small reservation would let Swarm place the worker where it cannot start."""
    (problem,) = missing(**OVERCOMMITTED, **config)
    assert (found, f"pulumi config set {fix}") == (problem.found, problem.fix)


def test_a_missing_label_is_reported_once_with_its_fix(missing):
    """Several services need it."""
    (problem,) = missing(controlPlacement="node.labels.role==boss")
    assert "controlPlacement" == problem.key
    assert "no node carries label role=boss; data-1 has role=data-worker" in problem.found
    assert "docker node update --label-add role=boss <node>" == problem.fix


def test_a_node_that_only_lacks_the_label_is_named(missing):
    """A label is easily forgotten; a node with another role is no mistake."""
    plain, away = node("data-2"), node("data-3", state="down")
    plain["Spec"]["Labels"], away["Spec"]["Labels"] = {}, {}
    (problem,) = missing(nodes=[*NODES[:2], plain, away])
    assert problem.found.endswith("unreserved; data-2 has no label role=data-worker")
    first, second = problem.fix.split(", or ")
    assert "pulumi config set workersPerNode 4" == first
    assert "docker node update --label-add role=data-worker data-2" == second


@pytest.mark.parametrize(
    ("away", "fix"),
    [
        ({"availability": "drain"}, "docker node update --availability active data-2"),
        ({"state": "down"}, "sudo systemctl start docker, on data-2"),
    ],
)
def test_an_unavailable_node_is_named(missing, away, fix):
    """The fix brings back the node, which has room."""
    (problem,) = missing(nodes=[*NODES[:2], node("data-2", **away)])
    assert "data-2 is" in problem.found
    assert "at most 2 of this size" == problem.expected
    assert fix == problem.fix


def test_a_full_master_is_named(missing):
    """Scheduler and notebook need little, but something."""
    (problem, *_) = missing(tasks=[task("master", memory=3.9)])
    assert "controlPlacement" == problem.key
    assert "dask_scheduler has no room; it reserves 0.1 CPU and 256MiB" in problem.found
    assert "docker node ps master" == problem.fix


def test_a_prefect_server_takes_room_too(missing):
    """It shares the master with scheduler and notebook."""
    full = [task("master", memory=3.5)]
    assert [] == missing(tasks=full)
    (problem,) = missing(tasks=full, prefect="managed")
    assert "controlPlacement" == problem.key
    assert "dask_prefect has no room" in problem.found


def test_services_of_one_node_share_it(missing):
    """On a single node the small services come first, and the workers get the rest."""
    alone = node("laptop", "data-worker", cpus=2.25, memory=8)
    config = {"controlPlacement": "node.role==worker", "workersPerNode": "4"}
    assert [] == missing(nodes=[alone], **config)
    config |= {"caddyMode": "managed", "domain": "localhost", "auth": "basic"}
    (problem,) = missing(nodes=[alone], **config)
    assert "pulumi config set workers 3" == problem.fix


def test_another_platform_is_named(missing):
    """The kernel's names of architectures become Docker's."""
    arm = [replace_platform(described, "aarch64") for described in NODES]
    assert [] == missing(nodes=arm, platform="linux/arm64")
    problem = missing(nodes=arm)[-1]
    assert ("platform", "linux/arm64") == (problem.key, problem.expected)
    assert "no node of workerPlacement is linux/amd64" == problem.found
    assert "pulumi config set platform linux/arm64" == problem.fix


BOTH = "linux/amd64,linux/arm64"


@pytest.fixture
def mixed():
    """Return the nodes, of which the last has another architecture."""
    return [*NODES[:2], replace_platform(NODES[2], "aarch64")]


def test_nodes_of_every_listed_platform_count(missing, mixed):
    """Two workers on each data node, whatever its architecture."""
    assert [] == missing(nodes=mixed, platform=BOTH)
    assert [] == missing(nodes=NODES, platform=BOTH)
    (problem,) = missing(nodes=mixed, platform=BOTH, workers="5")
    assert "at most 4 of this size" == problem.expected
    assert "platform" not in problem.found + problem.fix


def test_a_node_of_another_platform_is_named_where_it_is_missing(missing, mixed):
    """It has room, but its platform is not listed; the other fix still helps."""
    (problem,) = missing(nodes=mixed)
    assert "workers" == problem.key
    assert problem.found.endswith("; data-2 is linux/arm64, not in platform")
    assert "at most 2 of this size" == problem.expected
    first, second = problem.fix.split(", or with images for both ")
    assert "pulumi config set workersPerNode 4" == first
    assert f"pulumi config set platform {BOTH}" == second


def test_the_fix_keeps_the_platforms_of_the_other_services(missing):
    """Scheduler and notebook run on the master, and the workers elsewhere."""
    arm = [NODES[0], *(replace_platform(described, "aarch64") for described in NODES[1:])]
    (problem,) = missing(nodes=arm)
    assert "no node of workerPlacement is linux/amd64" == problem.found
    assert f"pulumi config set platform {BOTH}" == problem.fix
    assert [] == missing(nodes=arm, platform=BOTH)


def test_nodes_that_no_platform_names_need_another_placement(missing):
    """Swarm compares architectures, so an image for arm64 does not run on a 32-bit node."""
    old = [NODES[0], *(replace_platform(described, "armv7l") for described in NODES[1:])]
    (problem,) = missing(nodes=old, platform=BOTH)
    assert "no node of workerPlacement is linux/amd64 or linux/arm64" == problem.found
    assert "linux/armv7l" == problem.expected
    assert "pulumi config set workerPlacement …, for nodes of linux/amd64 or linux/arm64" == (
        problem.fix
    )


def replace_platform(described, machine):
    description = described["Description"] | {
        "Platform": {"OS": "linux", "Architecture": machine},
    }
    return described | {"Description": description}


LAPTOP = {"controlPlacement": "node.role==worker", "workers": "2"}


def laptop(memory, cpus=2, name="laptop"):
    """Return a node that takes all services."""
    return node(name, cpus=cpus, memory=memory)


@pytest.mark.parametrize(
    ("machine", "config", "fix"),
    [
        (laptop(2), {"workerMemory": "2GiB"}, "workerMemory 512MiB"),
        (laptop(8), {"workerCpus": "2"}, "workerCpus 0.8"),
        (laptop(8, cpus=1.5), {"workers": "3"}, "workers 2"),
        (laptop(2.25), {"workerMemory": "800MiB", "workers": "3"}, "workers 1"),
        (
            laptop(2),
            {"workerMemory": "2GiB", "workerReservedMemory": "1GiB"},
            "workers 1",
        ),
        (
            laptop(1.25),
            {"workerMemory": "1GiB", "workerReservedMemory": "999MiB"},
            "workerReservedMemory 128MiB",
        ),
    ],
)
def test_a_fix_leaves_room_for_updates(missing, stuck, machine, config, fix):
    """Otherwise the first `up` would be proven, and no later change of the scheduler."""
    (problem,) = missing(nodes=[machine], **LAPTOP | config)
    assert f"pulumi config set {fix}" == problem.fix
    key, value = fix.split()
    size = f"at most {value} of this size" if key == "workers" else "a size that a node has left"
    assert f"{size}, with room for updates" == problem.expected
    assert [] == stuck(nodes=[machine], **LAPTOP | config | {key: value})


def test_a_fix_that_leaves_no_room_for_updates_is_better_than_none(missing):
    """Dask needs 256 MiB. Beside scheduler and notebook, a smaller node has no room for it."""
    config = LAPTOP | {"workers": "1"}
    (problem,) = missing(nodes=[laptop(1)], **config)
    assert "pulumi config set workerMemory 512MiB" == problem.fix
    assert "a size that a node has left" == problem.expected
    (problem,) = missing(nodes=[laptop(1)], **LAPTOP | {"workerMemory": "400MiB"})
    assert "pulumi config set workers 1" == problem.fix
    assert "at most 1 of this size" == problem.expected
    (problem,) = missing(nodes=[laptop(0.7)], **config)
    assert "docker node ps laptop" == problem.fix


def test_a_cpu_size_in_a_fix_is_rounded_down(missing):
    """Three times 0.467 CPU are more than 1.4 CPU."""
    config = {"workers": "6", "workersPerNode": "3", "workerCpus": "2"}
    others = [task("data-1", cpus=0.6), task("data-2", cpus=0.6)]
    nodes = [NODES[0], node("data-1", memory=8), node("data-2", memory=8)]
    (problem,) = missing(nodes=nodes, tasks=others, **config)
    assert "pulumi config set workerCpus 0.466" == problem.fix
    assert [] == missing(nodes=nodes, tasks=others, **config | {"workerCpus": "0.466"})


def test_updates_without_room_are_named_with_a_fix(stuck):
    """Two workers have all that scheduler and notebook leave: a new scheduler would wait."""
    config = LAPTOP | {"workerMemory": "768MiB"}
    (problem,) = stuck(nodes=[laptop(2)], **config)
    assert "controlPlacement" == problem.key
    assert (
        "no room to update dask_scheduler and dask_notebook: a new task, which reserves 0.1 CPU "
        "and 256MiB, starts before the old task stops; laptop has 0.8 CPU and 0MiB unreserved"
    ) == problem.found
    assert "pulumi config set workers 1" == problem.fix
    assert [] == stuck(nodes=[laptop(2)], **config | {"workers": "1"})
    away, here = (
        node("away", memory=8, state="down"),
        {"controlPlacement": "node.hostname==laptop"},
    )
    (problem,) = stuck(nodes=[laptop(2), away], **config | here)
    assert "pulumi config set workers 1" == problem.fix
    config |= {"workersPerNode": "3", "workers": "3"}
    (problem,) = stuck(nodes=[laptop(2.75)], **config)
    assert "pulumi config set workers 2" == problem.fix


def test_room_for_one_new_task_at_a_time_is_enough(stuck):
    """The old scheduler's end makes room for the new notebook."""
    config = LAPTOP | {"workerMemory": "640MiB"}
    assert [] == stuck(nodes=[laptop(2)], **config)
    assert stuck(nodes=[laptop(2)], **config | {"workerMemory": "641MiB"})


def test_a_smaller_worker_makes_room_where_there_is_one(stuck):
    """A cluster without workers would compute nothing."""
    (problem,) = stuck(nodes=[laptop(2)], **LAPTOP | {"workers": "1", "workerMemory": "1536MiB"})
    assert "pulumi config set workerMemory 1024MiB" == problem.fix


def test_a_node_with_room_is_enough(stuck):
    """Any node that may run the scheduler can take its second task."""
    full = laptop(2), laptop(0.25, name="spare")
    config = LAPTOP | {"workerMemory": "768MiB", "workersPerNode": "2"}
    assert stuck(nodes=full[:1], **config)
    assert [] == stuck(nodes=full, **config)
    for other in (
        node("spare", "other", memory=8),
        node("spare", memory=8, availability="drain"),
        node("spare", memory=8, state="down"),
        replace_platform(laptop(8, name="spare"), "aarch64"),
    ):
        only = config | {"controlPlacement": "node.labels.role==data-worker"}
        assert stuck(nodes=[full[0], other], **only)


def test_workers_may_leave_room_on_either_node(stuck):
    """Swarm spreads them: what counts is whether they fit beside a second task."""
    nodes = [laptop(4.5, cpus=8), laptop(3.9, cpus=8, name="other")]
    config = LAPTOP | {"workers": "4", "workersPerNode": "4"}
    assert [] == stuck(nodes=nodes, **config | {"controlPlacement": "node.hostname==laptop"})


def test_a_control_node_that_others_have_filled_is_named(stuck):
    """No change of the workers would help: they run elsewhere."""
    (problem,) = stuck(tasks=[task("master", memory=3.4)])
    assert problem.found.endswith("; master has 1.8 CPU and 102.4MiB unreserved")
    assert "docker node ps master" == problem.fix
    plain = node("spare", memory=8)
    plain["Spec"]["Labels"] = {}
    (problem,) = stuck(nodes=[*NODES, plain], tasks=[task("master", memory=3.4)])
    label = "docker node update --label-add role=master spare"
    assert f"docker node ps master, or {label}" == problem.fix


def test_a_control_node_that_is_away_is_named(stuck):
    """It has the room that the other lacks."""
    away = node("master-2", "master", availability="drain")
    (problem,) = stuck(nodes=[*NODES, away], tasks=[task("master", memory=3.4)])
    assert "; master-2 is ready, drain" in problem.found
    assert "docker node update --availability active master-2" == problem.fix


def test_services_that_stop_first_need_no_second_room(stuck):
    """The Prefect server and Caddy would share a volume and ports with their successors."""
    config = {"caddyMode": "managed", "domain": "localhost", "auth": "basic", "prefect": "managed"}
    assert [] == stuck(nodes=[node("master", "master", cpus=0.6), *NODES[1:]], **config)


def test_workers_that_overcommit_leave_room_by_what_they_reserve(stuck):
    """They may use more than the node has."""
    config = LAPTOP | {"workers": "4", "workersPerNode": "4", "workerMemory": "1GiB"}
    small = OVERCOMMITTED | {"workerReservedMemory": "192MiB"}
    assert [] == stuck(nodes=[laptop(2)], **config | small)
    (problem,) = stuck(nodes=[laptop(1.5)], **config | OVERCOMMITTED)
    assert "pulumi config set workers 2" == problem.fix
