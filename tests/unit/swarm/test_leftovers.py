"""What a killed deployment has left is recognized, and nothing of another stack is."""

import pytest

from swarm import leftovers
from swarm.manager import PROBE_LABELS
from swarm.progress import Progress
from swarm.snapshot import Snapshot

SERVICE = "docker:index/service:Service"
NETWORK = "docker:index/network:Network"
CONFIG = "docker:index/serviceConfig:ServiceConfig"
SECRET = "docker:index/secret:Secret"
HOST = "unix:///manager"


def label(value):
    return {"labels": [{"label": "own", "value": value}]}


def pending(type_, name, *, operation="creating", **inputs):
    resource = {"type": type_, "urn": f"urn of {name}", "inputs": {"name": name, **inputs}}
    return {"type": operation, "resource": resource}


def state(*operations, known=()):
    provider = {"type": "pulumi:providers:docker", "id": "p", "inputs": {"host": HOST}, "urn": "p"}
    known = [{"type": NETWORK, "id": identity, "urn": identity} for identity in known]
    resources = [provider, *known]
    return {"resources": resources, "pending_operations": [*operations]}


def service(name, value="", identity="s1", mode="Replicated", networks=()):
    template = {"Networks": [{"Target": network} for network in networks]}
    labels = {"own": value, "by hand": "yes"}
    spec = {"Name": name, "Labels": labels, "Mode": {mode: {}}, "TaskTemplate": template}
    return {"ID": identity, "Spec": spec}


def network(name, value, identity="n1"):
    return {"Id": identity, "Name": name, "Labels": {"own": value} if value else None}


def config(name, identity="c1"):
    return {"ID": identity, "Spec": {"Name": name}}


class Swarm:
    """A manager with some objects, which records what is done to them."""

    poll_seconds = 0

    def __init__(self, probes=(), **objects):
        self._objects, self.done = objects, []
        self._probes = {probe["Spec"]["Name"]: probe for probe in probes}

    def objects(self, kind):
        return self._objects.get(kind, [])

    def labelled(self, labels):
        assert PROBE_LABELS == labels
        return Snapshot(services=self._probes, tasks=())

    def scale(self, name, replicas):
        self.done.append(("scale", name, replicas))

    def snapshot(self, _):
        return Snapshot(services={}, tasks=())

    def nodes(self):
        return []

    def remove(self, identity, kind):
        self.done.append(("remove", kind, identity))


def found(swarm, state):
    """Return the leftovers as (kind, id, is it this stack's own?)."""
    return [(left.kind, left.id, left.is_own) for left in leftovers.find(swarm, state)]


@pytest.mark.parametrize(
    ("kind", "obj", "operation"),
    [
        ("service", service("w", "h1", "x"), pending(SERVICE, "w", **label("h1"))),
        ("network", network("net", "u1", "x"), pending(NETWORK, "net", **label("u1"))),
        ("config", config("c-1a2b3c4", "x"), pending(CONFIG, "c-1a2b3c4")),
        ("secret", config("s-1a2b3c4", "x"), pending(SECRET, "s-1a2b3c4")),
    ],
)
def test_an_object_whose_creation_did_not_finish_is_a_leftover(kind, obj, operation):
    """The random suffix, the declared hash or the random value shows who created it."""
    assert [(kind, "x", True)] == found(Swarm(**{kind: [obj]}), state(operation))


@pytest.mark.parametrize(
    ("kind", "obj", "operation"),
    [
        ("service", service("w", "h2"), pending(SERVICE, "w", **label("h1"))),
        ("network", network("net", "u2"), pending(NETWORK, "net", **label("u1"))),
        ("network", network("net", None), pending(NETWORK, "net", **label("u1"))),
        ("network", network("net", "u2"), pending(NETWORK, "net")),
    ],
    ids=["hash", "value", "no labels on it", "no labels declared"],
)
def test_another_stacks_object_of_the_same_name_is_not_own(kind, obj, operation):
    """It has other labels, or a stack of an earlier version declared none."""
    ((_, _, is_own),) = found(Swarm(**{kind: [obj]}), state(operation))
    assert not is_own


def test_objects_that_the_state_has_are_not_leftovers():
    """The same service may be created again before the record of its first creation is cleared."""
    again = state(pending(SERVICE, "w", **label("h1")), known=["s1"])
    assert [] == found(Swarm(service=[service("w", "h1")]), again)


def test_objects_that_nobody_was_creating_are_not_leftovers():
    """Neither those of others, nor those of a deletion, which the state still has."""
    swarm = Swarm(config=[config("c-1a2b3c4"), config("foreign")], network=[network("net", "u1")])
    deleted = pending(CONFIG, "c-1a2b3c4", operation="deleting")
    assert [] == found(swarm, state(deleted))
    assert [] == found(swarm, state(pending(CONFIG, "c"), pending(CONFIG, "c-1a2b3c4-5")))
    assert [] == found(swarm, {})


def test_only_the_probe_on_this_stacks_network_is_a_leftover():
    """Another stack on the same Swarm may be proving its cluster now."""
    own = service("dask_health-1", identity="p1", networks=["other", "n1"])
    foreign = service("dask_health-2", identity="p2", networks=["n2"])
    assert [("service", "p1", True)] == found(Swarm([own, foreign]), state(known=["n1"]))


def test_leftovers_are_removed_after_their_tasks(capsys):
    """A task keeps its networks and secrets; a global service cannot be scaled."""
    swarm = Swarm(
        service=[service("w", "h1", "s1"), service("g", "h1", "s2", mode="Global")],
        network=[network("foreign", "u2", "n2"), network("net", "u1", "n1")],
    )
    operations = [
        pending(SERVICE, "w", **label("h1")),
        pending(SERVICE, "g", **label("h1")),
        pending(NETWORK, "net", **label("u1")),
        pending(NETWORK, "foreign", **label("u1")),
    ]
    leftovers.remove(swarm, leftovers.find(swarm, state(*operations)), ["x"], Progress())
    removed = [
        ("remove", "service", "s1"),
        ("remove", "service", "s2"),
        ("remove", "network", "n1"),
    ]
    assert [("scale", "w", 0), ("scale", "x", 0), *removed] == swarm.done
    assert "removed the network net, which a killed deployment" in capsys.readouterr().err


def test_the_managers_are_those_of_the_states_providers():
    """The stack's config may name another manager by now."""
    assert {HOST} == leftovers.hosts(state())
    assert set() == leftovers.hosts({})


@pytest.mark.parametrize(
    ("inputs", "known", "expected"),
    [
        ({"create": "put", "delete": "remove"}, [], 1),
        ({"create": "put", "delete": "remove"}, ["urn of c"], 0),
        ({"create": "prove"}, [], 0),
        ({"delete": "shut down"}, [], 0),
    ],
    ids=["install", "installed before", "proof", "shutdown"],
)
def test_only_a_program_that_undoes_its_own_work_is_to_be_undone(inputs, known, expected):
    """The shutdown would end the tasks of a stack that the next up completes."""
    operation = pending("command:local:Command", "c", **inputs)
    assert expected == len(leftovers.unfinished_programs(state(operation, known=known)))


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ([], ["w"]),
        ([{"create": "prove"}], ["w"]),
        ([{"create": "prove"}, {"delete": "shut down"}], []),
    ],
    ids=["killed before the proof", "during the proof", "finished"],
)
def test_the_services_of_an_unfinished_deployment_have_no_shutdown(commands, expected):
    """The engine would remove the network while their tasks still end, and fail."""
    modes = {"w": {"replicated": {"replicas": 1}}, "g": {"global": True}}
    services = [{"type": SERVICE, "inputs": {"name": n, "mode": modes[n]}} for n in modes]
    commands = [{"type": "command:local:Command", "inputs": inputs} for inputs in commands]
    state = {"resources": [*services, *commands]}
    assert expected == leftovers.services_without_shutdown(state)
