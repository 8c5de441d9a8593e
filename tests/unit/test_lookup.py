"""Which nodes a placement constraint means, judged as the Swarm would."""

import pytest

from components.lookup import matches, usable
from components.parsing import placement

NODE = {
    "ID": "n1",
    "Spec": {"Role": "worker", "Availability": "active", "Labels": {"role": "data-worker"}},
    "Status": {"State": "ready"},
    "Description": {
        "Hostname": "data-1",
        "Platform": {"OS": "linux", "Architecture": "x86_64"},
        "Engine": {"Labels": {"disk": "ssd"}},
    },
}


@pytest.mark.parametrize(
    ("expression", "met"),
    [
        ("node.labels.role==data-worker", True),
        ("node.labels.role==Data-Worker", True),
        ("node.labels.role!=data-worker", False),
        ("node.labels.zone==a", False),
        ("node.labels.zone!=a", True),
        ("node.role==worker", True),
        ("node.role==manager", False),
        ("node.hostname==data-1", True),
        ("node.id!=n1", False),
        ("node.platform.os==linux", True),
        ("engine.labels.disk==ssd", True),
    ],
)
def test_a_constraint_is_judged_as_the_swarm_does(expression, met):
    """A missing label equals nothing and differs from everything; case does not matter."""
    (constraint,) = placement(expression)
    assert met is matches(NODE, constraint)


@pytest.mark.parametrize(("availability", "state"), [("drain", "ready"), ("active", "down")])
def test_drained_and_lost_nodes_are_not_usable(availability, state):
    """A node that takes no tasks does not count as room."""
    spec = NODE["Spec"] | {"Availability": availability}
    assert usable(NODE)
    assert not usable(NODE | {"Spec": spec, "Status": {"State": state}})
