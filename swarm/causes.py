"""Why a task does not run: the Swarm's own error text translated into cause and cure.

Pure functions over services, tasks and nodes as the API describes them. The texts of placement
errors are those of https://github.com/moby/swarmkit, manager/scheduler/filter.go.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swarm.nodes import Node, Task, free, hostname, labels, matches, platform, resources, usable

Service = Mapping[str, Any]

CERTAIN_FAILURES = 3  # of one slot, for the same reason, that another attempt will not mend
REFUSED = r"exit \(78\)"  # EX_CONFIG: the reloader's word for a configuration that Caddy refuses


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Why, and what to do about it; `certain` when no further attempt can succeed."""

    text: str
    cure: str = ""
    certain: bool = False


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What there is to judge one task by: its service, all nodes, all tasks on them."""

    service: Service
    nodes: Sequence[Node]
    tasks: Sequence[Task]

    @property
    def constraints(self) -> list[str]:
        """The service's placement constraints."""
        placement = self.service["Spec"]["TaskTemplate"].get("Placement") or {}
        return list(placement.get("Constraints") or [])

    @property
    def fitting(self) -> list[Node]:
        """The nodes that meet all constraints, whether they take tasks at present or not."""
        fit = [n for n in self.nodes if all(matches(n, each) for each in self.constraints)]
        return sorted(fit, key=hostname)


def error_of(task: Task) -> str:
    """Return what `docker service ps --no-trunc` shows as the task's error."""
    return str(task["Status"].get("Err") or "")


def explain(error: str, scene: Scene) -> Cause | None:
    """Return the cause behind a task's error text, None when it is not known."""
    for pattern, explanation in _EXPLANATIONS:
        if found := re.search(pattern, error):
            return explanation(found, scene)
    return None


def size(number: int) -> str:
    """Return bytes as `1GiB`, `1.5GiB` or `512MiB`."""
    unit, factor = ("GiB", 2**30) if number >= 2**30 else ("MiB", 2**20)
    return f"{number / factor:.4g}{unit}"


def _unmatched(_: re.Match[str], scene: Scene) -> Cause:
    if cause := unmatched(scene.constraints, scene.nodes):
        return cause
    names = ", ".join(map(hostname, scene.fitting))
    return Cause(text=f"{names} could take it by now; the Swarm has not placed it yet")


def unmatched(constraints: Sequence[str], nodes: Sequence[Node]) -> Cause | None:
    """Return why no node meets all constraints, None when one does."""
    if any(all(matches(node, each) for each in constraints) for node in nodes):
        return None
    for constraint in constraints:
        if not any(matches(node, constraint) for node in nodes):
            return _unmet(constraint, nodes)
    return Cause(
        text=f"no node meets {' and '.join(constraints)} together; {_labelled(nodes)}",
        cure="docker node update --label-add <label>=<value> <node>",
        certain=True,
    )


def _unmet(constraint: str, nodes: Iterable[Node]) -> Cause:
    label = re.fullmatch(r"\s*node\.labels\.([\w./-]+)\s*==\s*(.+?)\s*", constraint)
    if label is None:
        return Cause(text=f"no node meets {constraint}; {_labelled(nodes)}", certain=True)
    wanted = f"{label[1]}={label[2]}"
    return Cause(
        text=f"no node carries label {wanted}; {_labelled(nodes)}",
        cure=f"docker node update --label-add {wanted} <node>",
        certain=True,
    )


def _labelled(nodes: Iterable[Node]) -> str:
    def described(node: Node) -> str:
        pairs = [f"{key}={value}" for key, value in sorted(labels(node).items())]
        return f"{hostname(node)} has {', '.join(pairs) or 'no label'}"

    return "; ".join(described(node) for node in sorted(nodes, key=hostname))


def _exhausted(_: re.Match[str], scene: Scene) -> Cause:
    template = scene.service["Spec"]["TaskTemplate"]
    cpus, memory = resources((template.get("Resources") or {}).get("Reservations"))
    room = [
        f"{hostname(node)} has {left[0] / 1e9:.4g} CPU and {size(max(left[1], 0))} unreserved"
        for node in scene.fitting
        if (left := free(node, scene.tasks))
    ]
    asked = f"each task asks for {cpus / 1e9:.4g} CPU and {size(memory)}"
    cure = "reserve less, run fewer tasks, or add a node"
    sizes = [resources(node["Description"].get("Resources")) for node in scene.fitting]
    # Room may still become free, a larger node will not appear.
    never = all(cpus > most[0] or memory > most[1] for most in sizes)
    return Cause(text=f"{asked}; {'; '.join(room)}", cure=cure, certain=bool(sizes) and never)


def _full(_: re.Match[str], scene: Scene) -> Cause:
    limit = scene.service["Spec"]["TaskTemplate"]["Placement"].get("MaxReplicas")
    names = ", ".join(hostname(node) for node in scene.fitting if usable(node))
    return Cause(
        text=f"at most {limit} tasks may run on one node, and {names or 'no node'} can take them",
        cure="add a node, allow more tasks on one, or run fewer",
    )


def _unavailable(_: re.Match[str], scene: Scene) -> Cause:
    away = [node for node in scene.fitting if not usable(node)]
    states = [
        f"{hostname(n)} is {n['Status']['State']}, {n['Spec']['Availability']}" for n in away
    ]
    cure = "docker node update --availability active <node>, or start its engine"
    return Cause(
        text=f"nodes that could take it are not available: {'; '.join(states)}", cure=cure
    )


def _no_image(_: re.Match[str], scene: Scene) -> Cause:
    image = _container(scene)["Image"]
    return Cause(
        text=f"image not found: the node cannot get {image}; it is not in the registry, or the "
        "node cannot reach the registry or is not logged in",
        cure=f"docker pull {image} on that node shows which",
        certain=True,
    )


def _no_program(_: re.Match[str], scene: Scene) -> Cause:
    container = _container(scene)
    command = " ".join([*(container.get("Command") or []), *(container.get("Args") or [])])
    text = f"the image has no such program: {command[:80]}"
    return Cause(text=text, cure="use an image that has it", certain=True)


def _killed(_: re.Match[str], scene: Scene) -> Cause:
    limits = (scene.service["Spec"]["TaskTemplate"].get("Resources") or {}).get("Limits")
    memory = resources(limits)[1]
    limit = f"limit {size(memory)}" if memory else "no limit, so the node itself ran out"
    return Cause(
        text=f"killed, most likely out of memory: {limit}", cure="allow more memory", certain=True
    )


def _unhealthy(_: re.Match[str], scene: Scene) -> Cause:
    test = (_container(scene).get("Healthcheck") or {}).get("Test") or ["of the image"]
    return Cause(text=f"its health check keeps failing: {' '.join(test)[-80:]}")


def _refused(_: re.Match[str], __: Scene) -> Cause:
    return Cause(text="Caddy refuses its configuration; its log says why", certain=True)


def _ended(found: re.Match[str], _: Scene) -> Cause:
    return Cause(text=f"its program ended with status {found[1]}; see its log")


def _platform(_: re.Match[str], scene: Scene) -> Cause:
    made = sorted({"/".join(platform(node)) for node in scene.fitting if any(platform(node))})
    return Cause(text=f"the image is for another platform than the nodes' {', '.join(made)}")


def _container(scene: Scene) -> Mapping[str, Any]:
    container: Mapping[str, Any] = scene.service["Spec"]["TaskTemplate"]["ContainerSpec"]
    return container


# The first that fits counts: where several filters have turned nodes down, the one that the
# other nodes had already passed says what is really missing.
_EXPLANATIONS: tuple[tuple[str, Callable[[re.Match[str], Scene], Cause]], ...] = (
    ("insufficient resources", _exhausted),
    ("max replicas per node", _full),
    ("unsupported platform", _platform),
    ("nodes? not available for new tasks", _unavailable),
    ("scheduling constraints not satisfied", _unmatched),
    ("(?i)no such image|manifest unknown|pull access denied|manifest for .* not found", _no_image),
    (r"executable file not found|no such file or directory|exit \(127\)", _no_program),
    ("unhealthy container", _unhealthy),
    (r"exit \(137\)", _killed),
    (REFUSED, _refused),
    (r"exit \((\d+)\)", _ended),
)
