"""The shutdown: its order, the tasks that it waits for, and for how long."""

import io
import json

import pytest

from components import workers
from swarm import shutdown
from swarm.progress import Progress
from swarm.snapshot import Snapshot

NAMES = ["dask_scheduler", "dask_worker"]


def node(name, state="ready"):
    return {"ID": name, "Description": {"Hostname": f"host-{name}"}, "Status": {"State": state}}


def task(where, state="running", desired="remove"):
    return {"NodeID": where, "Status": {"State": state}, "DesiredState": desired}


class Swarm:
    """A manager whose tasks end one by one, with every snapshot."""

    poll_seconds = 0

    def __init__(self, tasks, nodes, leftovers=()):
        self.left, self._nodes, self.leftovers, self.done = tasks, nodes, leftovers, []

    def labelled(self, _):
        return Snapshot(services=dict.fromkeys(self.leftovers), tasks=())

    def remove(self, name):
        self.done.append(("remove", name))

    def scale(self, name, replicas):
        self.done.append((name, replicas))

    def snapshot(self, names):
        assert NAMES == names
        tasks, self.left = self.left, self.left[1:]
        return Snapshot(services={}, tasks=tuple(tasks))

    def nodes(self):
        return self._nodes


def test_all_services_are_scaled_to_zero_in_order():
    """Nothing waits between them: workers that have lost their scheduler need not drain."""
    swarm = Swarm([], [], leftovers=["dask_health-1"])
    shutdown.shut_down(swarm, NAMES, Progress())
    expected = [("remove", "dask_health-1"), ("dask_scheduler", 0), ("dask_worker", 0)]
    assert expected == swarm.done


def test_the_probes_of_other_clusters_are_left_alone():
    """Another cluster on the same Swarm may be proving itself."""
    swarm = Swarm([], [], leftovers=["blue_health-1", "dask-2_health-1"])
    shutdown.shut_down(swarm, NAMES, Progress())
    assert [("dask_scheduler", 0), ("dask_worker", 0)] == swarm.done


def test_every_task_is_waited_for(capsys):
    """The message counts the tasks by node."""
    swarm = Swarm([task("a"), task("b"), task("b", "starting")], [node("a"), node("b")])
    shutdown.shut_down(swarm, NAMES, Progress())
    assert not swarm.left
    message = capsys.readouterr().err
    assert "tasks are ending: 1 on host-a, 2 on host-b" in message
    assert "still run" not in message


def test_ended_tasks_are_waited_for_until_they_are_deleted():
    """A manager may panic when their service is removed before that."""
    swarm = Swarm([task("a", "shutdown"), task("a", "shutdown")], [node("a")])
    shutdown.shut_down(swarm, NAMES, Progress())
    assert not swarm.left


def test_a_node_that_is_down_is_not_waited_for(capsys):
    """It cannot report the end of its tasks; the message says so."""
    swarm = Swarm([task("a"), task("a")], [node("a", "down")])
    shutdown.shut_down(swarm, NAMES, Progress())
    assert 1 == len(swarm.left)
    assert "2 on host-a; they end when the engine of their node answers" in capsys.readouterr().err


def test_a_task_that_does_not_end_is_waited_for_until_the_timeout(monkeypatch, capsys):
    """Swarm goes on to end the task."""
    monkeypatch.setattr(shutdown, "TIMEOUT_SECONDS", -1)
    shutdown.shut_down(Swarm([task("a")] * 9, [node("a")]), NAMES, Progress())
    assert "tasks still run as far as Swarm knows: 9 on host-a" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("state", "awaited"),
    [("running", True), ("pending", True), ("shutdown", False), ("failed", False)],
)
def test_only_tasks_that_have_not_ended_count(state, awaited):
    """States are those of the API; ended tasks stay in the Swarm's history."""
    assert awaited == bool(shutdown.ending([task("a", state, "shutdown")], [node("a")]))


@pytest.mark.parametrize("text", ["", "[]", '{"names": []}'])
def test_an_invalid_request_is_refused(text, monkeypatch, capsys):
    """The program does not connect to the manager before it has read a valid request."""
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert 1 == shutdown.main()
    assert "the request on standard input is not understood" in capsys.readouterr().err


def test_a_manager_that_does_not_answer_fails(monkeypatch, capsys):
    """The destroy stops before it removes anything, and names the manager."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"services": NAMES})))

    def silent():
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(shutdown, "Manager", silent)
    assert 1 == shutdown.main()
    assert "unix:///nowhere/docker.sock: refused" in capsys.readouterr().err


def test_every_task_may_use_its_grace_period():
    """Networks that are removed before are still in use."""
    assert "1m" == workers.GRACE_PERIOD
    assert 60 < shutdown.TIMEOUT_SECONDS < 120


class Busy:
    """A manager with services on two networks."""

    def objects(self, kind):
        services = [("dask_worker", "1"), ("dask_health-1", "1"), ("minio", "1"), ("web", "2")]
        networks = [{"Id": "1", "Name": "dask-network"}, {"Id": "2", "Name": "other"}]
        return networks if kind == "network" else [service_on(*service) for service in services]


def service_on(name, network_id):
    """Return a service with one network."""
    template = {"Networks": [{"Target": network_id}]}
    labels = {"dask.swarm/role": "health"} if name.startswith("dask_health") else {}
    return {"Spec": {"Name": name, "TaskTemplate": template, "Labels": labels}}


def test_a_foreign_service_on_a_network_is_named_with_its_cure():
    """The stack's own services and its probe do not keep the network."""
    (problem,) = shutdown.foreign_users(Busy(), NAMES, ["1"])
    assert problem.startswith("dask-network: in use by minio, so it cannot be removed; ")
    assert problem.endswith("docker service update --network-rm dask-network minio")
    assert [] == shutdown.foreign_users(Busy(), NAMES, [])


def test_nothing_is_ended_while_a_foreign_service_is_on_a_network(monkeypatch, capsys):
    """Its network could not be removed after that."""
    monkeypatch.setattr(shutdown, "Manager", Busy)
    monkeypatch.setattr("sys.stdin", io.StringIO('{"services": [], "networks": ["2"]}'))
    assert 1 == shutdown.main()
    assert "nothing is ended\nother: in use by web" in capsys.readouterr().err
