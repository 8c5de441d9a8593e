"""Why a task does not run: the Swarm's own error text translated into a cause and a fix.

Pure functions over services, tasks and nodes as the API describes them. The texts of placement
errors are those of https://github.com/moby/swarmkit, manager/scheduler/filter.go.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from config.types import spell_size
from swarm.nodes import (
    Node,
    Task,
    can_run,
    fits,
    free,
    hostname,
    label_of,
    labels,
    matches,
    platforms_of,
    resources,
    spell_platform,
    spell_room,
    spell_state,
    usable,
)
from swarm.snapshot import Service, works

MAX_FAILURES = 3  # of one slot for the same reason; another attempt does not help after that
PACKAGES_VARIABLE = "EXTRA_PIP_PACKAGES="  # the official images install these at start
# Some virtual network cards send the overlay's packets with wrong checksums.
CHECKSUM_FIX = "sudo ethtool -K <interface> tx-checksum-ip-generic off"
UNAVAILABLE = "nodes? not available for new tasks"
REFUSED = r"exit \(78\)"  # EX_CONFIG: the reloader exits with it when Caddy refuses its files


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Why a task does not run, and the fix; `permanent` if no further attempt can succeed."""

    text: str
    fix: str = ""
    permanent: bool = False


@dataclass(frozen=True, kw_only=True)
class Context:
    """What explains a task's error: its service, all nodes, all tasks."""

    service: Service
    nodes: Sequence[Node]
    tasks: Sequence[Task]

    @property
    def placement(self) -> Mapping[str, Any]:
        """The service's placement, as the API describes it."""
        placement: Mapping[str, Any] = self.service["Spec"]["TaskTemplate"].get("Placement") or {}
        return placement

    @property
    def constraints(self) -> list[str]:
        """The service's placement constraints."""
        return list(self.placement.get("Constraints") or [])

    @property
    def matching_nodes(self) -> list[Node]:
        """The nodes that can run the service, available or not."""
        return sorted((n for n in self.nodes if can_run(n, self.service)), key=hostname)

    @property
    def away(self) -> str:
        """The states of the nodes that can run the service and are not available."""
        return "; ".join(spell_state(n) for n in self.matching_nodes if not usable(n))

    @property
    def waits_beside_old_task(self) -> bool:
        """Whether a task of the service runs until the new task of an update is healthy."""
        order = (self.service["Spec"].get("UpdateConfig") or {}).get("Order")
        return order == "start-first" and any(
            works(task) for task in self.tasks if task["ServiceID"] == self.service["ID"]
        )


def error_of(task: Task) -> str:
    """Return what `docker service ps --no-trunc` shows as the task's error."""
    return str(task["Status"].get("Err") or "")


def explain(error: str, context: Context) -> Cause | None:
    """Return the cause of a task's error text, None for an unknown text."""
    for pattern, explanation in _EXPLANATIONS:
        if match := re.search(pattern, error):
            return explanation(match, context)
    return None


def explain_log(lines: Iterable[str], context: Context) -> Cause | None:
    """Return the cause that a task's last lines show, None if they show none."""
    text = "\n".join(lines)
    for pattern, explanation in _LOG_EXPLANATIONS:
        if (match := re.search(pattern, text)) and (cause := explanation(match, context)):
            return cause
    return None


def explain_start(task: Task, context: Context) -> Cause | None:
    """Return why a task is not ready yet, None if it should be."""
    variables = [str(text) for text in _container(context).get("Env") or []]
    packages = [text for text in variables if text.startswith(PACKAGES_VARIABLE)]
    if task["Status"]["State"] != "starting" or not packages:
        return None
    names = packages[0].removeprefix(PACKAGES_VARIABLE)
    return Cause(
        text=f"its container has not finished its start; it installs {names}",
        fix="raise healthDeadline, or use images that have the packages",
    )


def explain_silence(hostnames: Sequence[str]) -> Cause:
    """Return why the scheduler may not know any worker of some nodes."""
    names = ", ".join(hostnames)
    return Cause(
        text=f"the scheduler knows no worker of {names}: the network between the nodes drops the "
        "overlay's packets, 4789/udp",
        fix=f"open 4789/udp, and 7946 tcp and udp, between {names} and the scheduler's node, with "
        "networkEncrypted also IP protocol 50, which all kernels must have (sudo modprobe esp4); "
        f"if they are open: {CHECKSUM_FIX}, on {names}",
    )


def waits_for_node(task: Task, context: Context) -> bool:
    """Return whether a task has no node because a node that could take it is not available."""
    is_pending = (task["DesiredState"], task["Status"]["State"]) == ("running", "pending")
    return is_pending and bool(re.search(UNAVAILABLE, error_of(task)) and context.away)


def _unmatched(_: re.Match[str], context: Context) -> Cause:
    if cause := unmatched(context.constraints, context.nodes):
        return cause
    names = ", ".join(map(hostname, context.matching_nodes))
    return Cause(text=f"{names} can take it now; Swarm has not placed it yet")


def unmatched(constraints: Sequence[str], nodes: Sequence[Node]) -> Cause | None:
    """Return why no node meets all constraints, None when one does."""
    if any(fits(node, constraints) for node in nodes):
        return None
    for constraint in constraints:
        if not any(matches(node, constraint) for node in nodes):
            return _unmet(constraint, nodes)
    return Cause(
        text=f"no node meets {' and '.join(constraints)} together; {_labels_by_node(nodes)}",
        fix="docker node update --label-add <label>=<value> <node>",
        permanent=True,
    )


def _unmet(constraint: str, nodes: Iterable[Node]) -> Cause:
    label = label_of(constraint)
    if label is None:
        return Cause(text=f"no node meets {constraint}; {_labels_by_node(nodes)}", permanent=True)
    wanted = "=".join(label)
    return Cause(
        text=f"no node carries label {wanted}; {_labels_by_node(nodes)}",
        fix=f"docker node update --label-add {wanted} <node>",
        permanent=True,
    )


def _labels_by_node(nodes: Iterable[Node]) -> str:
    def described(node: Node) -> str:
        pairs = [f"{key}={value}" for key, value in sorted(labels(node).items())]
        return f"{hostname(node)} has {', '.join(pairs) or 'no label'}"

    return "; ".join(described(node) for node in sorted(nodes, key=hostname))


def _exhausted(_: re.Match[str], context: Context) -> Cause:
    template = context.service["Spec"]["TaskTemplate"]
    cpus, memory = resources((template.get("Resources") or {}).get("Reservations"))
    usable_nodes = [node for node in context.matching_nodes if usable(node)]
    room = [spell_room(node, free(node, context.tasks)) for node in usable_nodes]
    asked = f"each task asks for {cpus / 1e9:.4g} CPU and {spell_size(memory)}"
    more = "bring a node back" if context.away else "add a node"
    fix = f"reserve less, run fewer tasks, or {more}"
    if context.waits_beside_old_task:
        asked += ", and the old task keeps as much until the new task is healthy"
        fix = f"docker node ps <node> lists what has the room: run less of it, or {more}"
    sizes = [resources(node["Description"].get("Resources")) for node in context.matching_nodes]
    # Resources may become free, but no larger node appears.
    never = all(cpus > most[0] or memory > most[1] for most in sizes)
    text = "; ".join(filter(None, [asked, *room, context.away]))
    return Cause(text=text, fix=fix, permanent=bool(sizes) and never)


def _full(_: re.Match[str], context: Context) -> Cause:
    limit = context.service["Spec"]["TaskTemplate"]["Placement"].get("MaxReplicas")
    names = ", ".join(hostname(node) for node in context.matching_nodes if usable(node))
    more = "bring a node back" if context.away else "add a node"
    text = f"at most {limit} tasks may run on one node, and {names or 'no node'} can take them"
    return Cause(
        text="; ".join(filter(None, [text, context.away])),
        fix=f"{more}, allow more tasks on one, or run fewer",
    )


def _unavailable(_: re.Match[str], context: Context) -> Cause:
    fix = "docker node update --availability active <node>, or start its engine"
    return Cause(text=f"nodes that could take it are not available: {context.away}", fix=fix)


def _no_image(_: re.Match[str], context: Context) -> Cause:
    image = _container(context)["Image"]
    return Cause(
        text=f"image not found: the node cannot get {image}; it is not in the registry, or not "
        "for the node's platform, or the node cannot reach the registry, or the service has no "
        "valid login for it",
        fix=f"docker pull {image} on that node shows which",
        permanent=True,
    )


def _no_program(_: re.Match[str], context: Context) -> Cause:
    container = _container(context)
    command = " ".join([*(container.get("Command") or []), *(container.get("Args") or [])])
    text = f"the image has no such program: {command[:80]}"
    return Cause(text=text, fix="use an image that has it", permanent=True)


def _killed(_: re.Match[str], context: Context) -> Cause:
    limits = (context.service["Spec"]["TaskTemplate"].get("Resources") or {}).get("Limits")
    memory = resources(limits)[1]
    limit = f"limit {spell_size(memory)}" if memory else "no limit, so the node itself ran out"
    return Cause(
        text=f"killed, most likely out of memory: {limit}", fix="allow more memory", permanent=True
    )


def _unhealthy(_: re.Match[str], context: Context) -> Cause:
    test = (_container(context).get("Healthcheck") or {}).get("Test") or ["of the image"]
    return Cause(text=f"its health check keeps failing: {' '.join(test)[-80:]}")


def _refused(_: re.Match[str], __: Context) -> Cause:
    return Cause(text="Caddy refuses its configuration; its log says why", permanent=True)


def _ended(match: re.Match[str], _: Context) -> Cause:
    return Cause(text=f"its program ended with status {match[1]}; see its log")


def _platform(_: re.Match[str], context: Context) -> Cause:
    nodes = [node for node in context.nodes if fits(node, context.constraints)]
    other = ", ".join(sorted({spell_platform(node) for node in nodes} - {""}))
    wanted = " or ".join(platforms_of(context.placement)) or "what the image is made for"
    return Cause(
        text=f"the nodes have another platform than {wanted}: {other}",
        fix=f"use an image for {other}, and set platform to it",
    )


def _container(context: Context) -> Mapping[str, Any]:
    container: Mapping[str, Any] = context.service["Spec"]["TaskTemplate"]["ContainerSpec"]
    return container


def _no_index(match: re.Match[str], _: Context) -> Cause:
    host = f" at {match['host']}" if match["host"] else ""
    return Cause(
        text=f"pip cannot connect to its package index{host} ({match['error']})",
        fix="give the nodes a way to the index, or use images that have the packages and set "
        "extraPipPackages to []",
    )


def _no_package(match: re.Match[str], _: Context) -> Cause:
    return Cause(
        text=f"pip finds no {match[1]}: its package index lacks it or cannot be reached",
        fix="curl -I https://pypi.org/simple/ on that node shows which",
    )


def _wrong_clock(match: re.Match[str], _: Context) -> Cause:
    text = f"a certificate is not valid yet: the clock of {match[1]} is behind"
    return Cause(text=text, fix="sudo timedatectl set-ntp true, on that node")


def _foreign_volume(match: re.Match[str], context: Context) -> Cause | None:
    container = _container(context)
    for mount in container.get("Mounts") or []:
        target, source = mount["Target"], mount.get("Source")
        if source and f"{match[1]}/".startswith(f"{target}/"):
            user = str(container.get("User") or "1000").partition(":")[0]
            path = f'"$(docker volume inspect --format {{{{.Mountpoint}}}} {source})"'
            return Cause(
                text=f"the volume {source} ({target}) does not belong to the container's user, "
                f"uid {user}",
                fix=f"sudo chown -R {user} {path}, on that node",
            )
    return None


_LOG_EXPLANATIONS: tuple[tuple[str, Callable[[re.Match[str], Context], Cause | None]], ...] = (
    (r"after connection broken by '(?P<error>\w+)(?:.*?host='(?P<host>[^']+)')?", _no_index),
    (r"No matching distribution found for (\S+)", _no_package),
    (r"not valid yet: the clock of (the \w+'s node) is behind", _wrong_clock),
    (r"(?i)permission denied: b?['\"]([^'\"]+)", _foreign_volume),
)

# The first match counts: if several filters rejected nodes, the nodes that passed all filters but
# one show what is really missing.
_EXPLANATIONS: tuple[tuple[str, Callable[[re.Match[str], Context], Cause]], ...] = (
    ("insufficient resources", _exhausted),
    ("max replicas per node", _full),
    ("unsupported platform", _platform),
    (UNAVAILABLE, _unavailable),
    ("scheduling constraints not satisfied", _unmatched),
    ("(?i)no such image|manifest unknown|pull access denied|manifest for .* not found", _no_image),
    (r"executable file not found|no such file or directory|exit \(127\)", _no_program),
    ("unhealthy container", _unhealthy),
    (r"exit \(137\)", _killed),
    (REFUSED, _refused),
    (r"exit \((\d+)\)", _ended),
)
