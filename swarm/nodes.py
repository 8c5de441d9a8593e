"""What a node can run: constraints and resources, over nodes as `GET /nodes` describes them."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from config.types import spell_size

Node = Mapping[str, Any]
Task = Mapping[str, Any]

# The kernel's names of architectures, and Docker's.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# The kernel's names of the other machines that official images are made for.
_OTHER_MACHINES = ("armv6l", "armv7l", "i686", "ppc64le", "riscv64", "s390x")
ATTESTATION = "unknown/unknown"  # an entry of an index that is no image

_LABEL = re.compile(r"\s*node\.labels\.([\w./-]+)\s*==\s*(.+?)\s*")
_CONSTRAINT = re.compile(r"\s*(?P<attribute>[\w./-]+)\s*(?P<operator>==|!=)\s*(?P<value>.+?)\s*")


def hostname(node: Node) -> str:
    """Return the node's name as `docker node ls` shows it, its id while it has no name."""
    # Swarm lists a node as soon as it asks for a certificate, and describes it once it connects.
    return str(node["Description"].get("Hostname") or node["ID"])


def platform(node: Node) -> tuple[str, str]:
    """Return the node's operating system and architecture, empty while they are unknown."""
    known = node["Description"].get("Platform") or {}
    return str(known.get("OS", "")), str(known.get("Architecture", ""))


def spell_platform(node: Node) -> str:
    """Return a node's platform as images have it, `linux/amd64`; empty while it is unknown."""
    system, machine = platform(node)
    return f"{system}/{ARCHITECTURES.get(machine, machine)}" if system else ""


def labels(node: Node) -> dict[str, str]:
    """Return the labels that `docker node update --label-add` sets."""
    return dict(node["Spec"].get("Labels") or {})


def label_of(constraint: str) -> tuple[str, str] | None:
    """Return the label that a constraint asks for and its value, None for other constraints."""
    label = _LABEL.fullmatch(constraint)
    return (label[1], label[2]) if label else None


def missing_label(node: Node, constraints: Iterable[str]) -> str:
    """Return the label, as `role=master`, that is all a node lacks to meet the constraints.

    Empty if there is none, or the node has the label with another value.
    """
    unmet = [constraint for constraint in constraints if not matches(node, constraint)]
    label = label_of(unmet[0]) if len(unmet) == 1 else None
    return "=".join(label) if label and label[0] not in labels(node) else ""


def usable(node: Node) -> bool:
    """Return whether Swarm places new tasks on this node."""
    return bool(node["Spec"]["Availability"] == "active" and node["Status"]["State"] == "ready")


def spell_state(node: Node) -> str:
    """Return a node's state, and since when Swarm knows it."""
    since = str(node.get("UpdatedAt") or "")[:16].replace("T", " ")
    state = f"{node['Status']['State']}, {node['Spec']['Availability']}"
    return f"{hostname(node)} is {state}" + (f" (since {since} UTC)" if since else "")


def spell_room(node: Node, left: tuple[int, int]) -> str:
    """Return a node's unreserved CPUs (`left` has billionths) and memory (bytes) for a message."""
    cpus, memory = (max(amount, 0) for amount in left)
    return f"{hostname(node)} has {cpus / 1e9:.4g} CPU and {spell_size(memory)} unreserved"


def matches(node: Node, constraint: str) -> bool:
    """Return whether a node meets a constraint such as `node.labels.role==master`.

    Values compare case-insensitively, and a missing label is empty, as in
    https://github.com/moby/swarmkit, manager/constraint. Raises `ValueError` for other text.
    """
    match = _CONSTRAINT.fullmatch(constraint)
    if match is None:
        raise ValueError(f"not a constraint: {constraint!r}")
    same = _attribute(node, match["attribute"]).casefold() == match["value"].casefold()
    return same if match["operator"] == "==" else not same


def fits(node: Node, constraints: Iterable[str], platforms: Collection[str] = ()) -> bool:
    """Return whether a node, available or not, meets all constraints and has one of the platforms.

    Platforms are such as `linux/amd64`; none means all, and an unknown platform is accepted.
    """
    is_made_for = not platforms or spell_platform(node) in ("", *platforms)
    return is_made_for and all(matches(node, constraint) for constraint in constraints)


def platform_constraints(platforms: Collection[str], of_image: Collection[str]) -> list[str]:
    """Return the constraints that keep tasks on nodes of `platforms`, such as `linux/amd64`.

    They are needed where the image has more, because Swarm places tasks by those `of_image`.
    """
    if {*of_image} <= {*platforms, ATTESTATION}:
        return []
    machines = [name for name, known in ARCHITECTURES.items() if f"linux/{known}" in platforms]
    if len(machines) == 1:
        rules = [f"node.platform.arch=={machines[0]}"]
    else:  # constraints have no "or"
        rules = [f"node.platform.arch!={other}" for other in _OTHER_MACHINES]
    return ["node.platform.os==linux", *rules]


def can_run(node: Node, service: Mapping[str, Any]) -> bool:
    """Return whether the placement of a service, as the API describes it, `fits` a node."""
    placement = service["Spec"]["TaskTemplate"].get("Placement") or {}
    return fits(node, placement.get("Constraints") or (), platforms_of(placement))


def platforms_of(placement: Mapping[str, Any]) -> list[str]:
    """Return the platforms of a placement as the API describes it; none means all."""
    described = placement.get("Platforms") or ()
    # Docker's client leaves out the architecture of 32-bit ARM, because the nodes' names differ.
    named = [f"{one.get('OS', '')}/{one.get('Architecture', '')}" for one in described]
    return [platform for platform in named if platform != ATTESTATION]


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
    """Return the node's unreserved CPUs (billionths) and memory (bytes)."""
    cpus, memory = resources(node["Description"].get("Resources"))
    for task in tasks:
        if task.get("NodeID") == node["ID"] and task["DesiredState"] == "running":
            reserved = resources((task["Spec"].get("Resources") or {}).get("Reservations"))
            cpus, memory = cpus - reserved[0], memory - reserved[1]
    return cpus, memory
