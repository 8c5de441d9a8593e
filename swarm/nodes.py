"""What a node can take: constraints and resources, over nodes as `GET /nodes` describes them."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

Node = Mapping[str, Any]
Task = Mapping[str, Any]

_CONSTRAINT = re.compile(r"\s*(?P<attribute>[\w./-]+)\s*(?P<operator>==|!=)\s*(?P<value>.+?)\s*")


def hostname(node: Node) -> str:
    """Return the node's name as `docker node ls` shows it, its id until it has told it."""
    # The Swarm has a node once it asks for a certificate, the rest once it has connected.
    return str(node["Description"].get("Hostname") or node["ID"])


def platform(node: Node) -> tuple[str, str]:
    """Return the node's operating system and architecture, empty until it has told them."""
    found = node["Description"].get("Platform") or {}
    return str(found.get("OS", "")), str(found.get("Architecture", ""))


def labels(node: Node) -> dict[str, str]:
    """Return the labels that `docker node update --label-add` has set."""
    return dict(node["Spec"].get("Labels") or {})


def usable(node: Node) -> bool:
    """Tell whether the Swarm gives this node any new task."""
    return bool(node["Spec"]["Availability"] == "active" and node["Status"]["State"] == "ready")


def matches(node: Node, constraint: str) -> bool:
    """Tell whether a node meets a constraint such as `node.labels.role==master`.

    Values compare without regard to case, and a label that is missing is empty, as in
    https://github.com/moby/swarmkit, manager/constraint. Raises `ValueError` for other text.
    """
    match = _CONSTRAINT.fullmatch(constraint)
    if match is None:
        raise ValueError(f"not a constraint: {constraint!r}")
    same = _attribute(node, match["attribute"]).casefold() == match["value"].casefold()
    return same if match["operator"] == "==" else not same


def _attribute(node: Node, attribute: str) -> str:
    description = node["Description"]
    for prefix, named in (
        ("node.labels.", labels(node)),
        ("engine.labels.", (description.get("Engine") or {}).get("Labels") or {}),
    ):
        if attribute.startswith(prefix):
            return str(named.get(attribute.removeprefix(prefix), ""))
    plain = {
        "node.id": node["ID"],
        "node.hostname": hostname(node),
        "node.role": node["Spec"]["Role"],
        "node.platform.os": platform(node)[0],
        "node.platform.arch": platform(node)[1],
    }
    return str(plain.get(attribute, ""))


def resources(owner: Mapping[str, Any] | None) -> tuple[int, int]:
    """Return CPUs in billionths and memory in bytes from an API's `Resources`-like object."""
    return (owner or {}).get("NanoCPUs") or 0, (owner or {}).get("MemoryBytes") or 0


def free(node: Node, tasks: Iterable[Task]) -> tuple[int, int]:
    """Return what of the node's CPUs (billionths) and memory (bytes) no task has reserved."""
    cpus, memory = resources(node["Description"].get("Resources"))
    for task in tasks:
        if task.get("NodeID") == node["ID"] and task["DesiredState"] == "running":
            taken = resources((task["Spec"].get("Resources") or {}).get("Reservations"))
            cpus, memory = cpus - taken[0], memory - taken[1]
    return cpus, memory
