"""The release of a network: it waits for tasks, and names the services that stay."""

import io

from swarm import release
from swarm.progress import Progress
from tests.unit.swarm.test_shutdown import node, service_on


def task_on(network_id, where="a", state="running"):
    """Return a task of a removed service that is on a network."""
    attachment = {"Network": {"ID": network_id}}
    status = {"Status": {"State": state}, "DesiredState": "remove", "NodeID": where}
    return status | {"NetworksAttachments": [attachment]}


class Swarm:
    """A manager whose tasks end one by one, with every look."""

    poll_seconds = 0

    def __init__(self, tasks, services=(), nodes=()):
        self.left, self.services, self._nodes = tasks, services, nodes or [node("a")]

    def objects(self, kind):
        assert "service" == kind
        return self.services

    def tasks(self):
        tasks, self.left = self.left, self.left[1:]
        return tasks

    def nodes(self):
        return self._nodes


def test_every_task_on_the_network_is_waited_for(capsys):
    """Ended tasks too, until Swarm has forgotten them; tasks without a network have none."""
    without = {"Status": {"State": "running"}, "DesiredState": "running"}
    swarm = Swarm([task_on("1"), task_on("1", state="shutdown"), task_on("2"), without])
    assert "" == release.release(swarm, "1", Progress())
    assert [without] == swarm.left
    assert "tasks are ending: 2 on host-a" in capsys.readouterr().err


def test_a_node_that_is_down_is_not_waited_for():
    """It cannot report the end of its tasks."""
    swarm = Swarm([task_on("1"), task_on("1")], nodes=[node("a", "down")])
    assert "" == release.release(swarm, "1", Progress())
    assert 1 == len(swarm.left)


def test_the_wait_has_an_end(monkeypatch):
    """A task that never ends keeps its network; the provider's error follows."""
    monkeypatch.setattr(release, "TIMEOUT_SECONDS", 0)
    swarm = Swarm([task_on("1")] * 3)
    assert "" == release.release(swarm, "1", Progress())
    assert 3 == len(swarm.left)


def test_a_service_that_stays_is_named_with_its_cure(monkeypatch, capsys):
    """The stack's own services are removed by then."""
    monkeypatch.setattr(release, "Manager", lambda: Swarm([], [service_on("minio", "1")]))
    monkeypatch.setattr("sys.stdin", io.StringIO('{"network": "1"}'))
    assert 1 == release.main()
    message = "the network 1 is in use by minio; fix: docker service update --network-rm 1 minio"
    assert message in capsys.readouterr().err


def test_a_request_without_a_network_is_refused(monkeypatch, capsys):
    """It is not an answer of the manager."""
    monkeypatch.setattr("sys.stdin", io.StringIO("{}"))
    assert 1 == release.main()
    assert "the request on standard input is not understood" in capsys.readouterr().err
