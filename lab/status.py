"""How the lab is, node by node."""

from collections.abc import Sequence
from dataclasses import dataclass

from docker.errors import DockerException
from requests.exceptions import RequestException

from lab import swarm
from lab.base import TAG
from lab.engine import connect
from lab.images import Image, is_pulled, wanted
from lab.layout import Lab, Node
from lab.shell import LabError


@dataclass(frozen=True, kw_only=True)
class NodeStatus:
    """What is to be known of one node; `swarm` is its state there, `images` those it lacks."""

    node: Node
    swarm: str
    missing: tuple[str, ...] = ()

    @property
    def is_well(self) -> bool:
        """Whether a deployment can use the node."""
        return self.swarm == "active" and not self.missing

    def line(self) -> str:
        """For a person."""
        images = f"lacks {', '.join(self.missing)}" if self.missing else "images current"
        facts = f"{self.swarm:<10} {images}" if self.swarm else "engine down"
        return f"{self.node.hostname:<12} {self.node.role:<12} {self.node.address:<12} {facts}"


def check(lab: Lab) -> None:
    """Print the nodes; `LabError` when one is not as it should be."""
    images = wanted(lab.registry, TAG)
    found = [_node_status(node, images) for node in lab.nodes]
    print(f"manager {lab.docker_host}, registry {lab.registry}")
    print("\n".join(status.line() for status in found))
    if unwell := [status.node.hostname for status in found if not status.is_well]:
        raise LabError(f"{', '.join(unwell)} not ready: `python -m lab up` mends it")


def _node_status(node: Node, images: Sequence[Image]) -> NodeStatus:
    try:
        with connect(node.docker_host, seconds=5) as engine:
            state = str(swarm.membership(engine)["LocalNodeState"])
            lacking = [image.repository for image in images if not is_pulled(engine, image)]
    except (DockerException, RequestException):
        return NodeStatus(node=node, swarm="")
    return NodeStatus(node=node, swarm=state, missing=tuple(lacking))
