"""Whether the nodes can take what is to be deployed; pure, over the Swarm's own description.

Owns what each service reserves beyond its workers' limits, and the placing of all tasks on what
others have left of the nodes. The tasks of the services that are to be deployed do not count:
they end before their successors start.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from config.problems import complaint, set_command
from config.settings import Settings
from config.types import Platform, memory
from config.workloads import ResourceLimit
from swarm.causes import size, unmatched
from swarm.nodes import Node, Task, free, hostname, matches, usable
from swarm.nodes import platform as platform_of

# What all but the workers need to start; up to their limits they share the node.
SMALL = ResourceLimit(cpus=Decimal("0.1"), memory_bytes=memory("256MiB"))
WORKER = "dask_worker"
Amount = tuple[int, int]  # CPUs in billionths, bytes of memory
# As Docker names them, and as the kernel does.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, kw_only=True)
class Demand:
    """The equal tasks of a service; `key` is the config key that says where they may run."""

    service: str
    key: str
    constraints: Sequence[str]
    tasks: int
    per_node: int
    each: ResourceLimit


def demands(settings: Settings) -> list[Demand]:
    """Return what is to be placed, the largest last: it takes what is left."""
    small = ["dask_scheduler", "dask_notebook"]
    small += ["dask_prefect"] if settings.prefect == "managed" else []
    small += ["dask_caddy", "dask_caddy_reloader"] if settings.caddy_mode == "managed" else []
    worker = ResourceLimit(cpus=settings.worker_cpus, memory_bytes=settings.worker_memory)
    return [
        *(
            Demand(
                service=name,
                key="controlPlacement",
                constraints=settings.control_placement,
                tasks=1,
                per_node=1,
                each=SMALL,
            )
            for name in small
        ),
        Demand(
            service=WORKER,
            key="workerPlacement",
            constraints=settings.worker_placement,
            tasks=settings.workers,
            per_node=settings.workers_per_node,
            each=worker,
        ),
    ]


def shortages(
    wanted: Iterable[Demand], platform: Platform, nodes: Sequence[Node], tasks: Sequence[Task]
) -> list[str]:
    """Return what is missing for each service; `tasks` are those that stay."""
    left = {node["ID"]: free(node, tasks) for node in nodes}
    problems = [_place(demand, platform, nodes, left) for demand in wanted]
    # Services that want the same nodes miss the same.
    return list(dict.fromkeys(problem for problem in problems if problem))


def _place(
    demand: Demand, platform: Platform, nodes: Sequence[Node], left: dict[str, Amount]
) -> str | None:
    """Take what `demand` needs from `left`; return what is wrong if it does not fit."""
    if cause := unmatched(demand.constraints, nodes):
        cure = cause.fix or set_command(demand.key, "node.role==manager")
        return complaint(demand.key, cause.text, "constraints that nodes meet", cure)
    fit = [n for n in nodes if all(matches(n, each) for each in demand.constraints)]
    kinds = sorted({_platform(node) for node in fit} - {""})
    fit = [n for n in fit if _platform(n) in ("", f"{platform.os}/{platform.architecture}")]
    if not fit:
        found = f"{platform.os}/{platform.architecture} is not what the nodes of {demand.key} are"
        return complaint("platform", found, ", ".join(kinds), set_command("platform", kinds[0]))
    before = dict(left)
    placed = _take(demand, [node for node in fit if usable(node)], left)
    return _shortage(demand, sorted(fit, key=hostname), before, placed)


def _platform(node: Node) -> str:
    """Return `linux/amd64`, empty for a node that has not told yet, and takes no task before."""
    system, machine = platform_of(node)
    return f"{system}/{ARCHITECTURES.get(machine, machine)}" if system else ""


def _take(demand: Demand, ready: Sequence[Node], left: dict[str, Amount]) -> int:
    """Place the tasks, on the emptiest node first; return how many found room."""
    missing = demand.tasks
    for node in sorted(ready, key=lambda node: left[node["ID"]][1], reverse=True):
        (cpus, memory_bytes), each = left[node["ID"]], demand.each
        count = min(missing, demand.per_node, _room(each, left[node["ID"]]))
        left[node["ID"]] = cpus - count * each.nano_cpus, memory_bytes - count * each.memory_bytes
        missing -= count
    return demand.tasks - missing


def _room(each: ResourceLimit, left: Amount) -> int:
    return max(min(left[0] // each.nano_cpus, left[1] // each.memory_bytes), 0)


def _shortage(
    demand: Demand, fit: Sequence[Node], left: Mapping[str, Amount], placed: int
) -> str | None:
    """Return what a demand lacks, of which `placed` tasks have room in what was left before."""
    if placed == demand.tasks:
        return None
    each = f"{demand.each.nano_cpus / 1e9:.4g} CPU and {size(demand.each.memory_bytes)}"
    nodes = "; ".join(_described(node, left[node["ID"]]) for node in fit)
    if demand.service != WORKER:
        found = f"{demand.service} has no room: it reserves {each}; {nodes}"
        cure = _wake(fit) or f"docker node ps {hostname(fit[0])}"
        return complaint(demand.key, found, "nodes with room for it", cure)
    limits = f"each reserves {each}, and a node takes at most workersPerNode {demand.per_node}"
    found = f"{demand.tasks} have no room: {limits}; {nodes}"
    cure = _wake(fit) or _smaller(demand, fit, left, placed)
    allowed = f"at most {placed} of this size" if placed else "what a node has left"
    return complaint("workers", found, allowed, cure)


def _described(node: Node, left: Amount) -> str:
    if not usable(node):
        state, availability = node["Status"]["State"], node["Spec"]["Availability"]
        return f"{hostname(node)} is {state}, {availability}"
    free_memory = size(max(left[1], 0))
    return f"{hostname(node)} has {max(left[0], 0) / 1e9:.4g} CPU and {free_memory} unreserved"


def _wake(fit: Sequence[Node]) -> str:
    """Return what brings back a node that takes no tasks, if there is one."""
    for node in (each for each in fit if not usable(each)):
        if node["Spec"]["Availability"] != "active":
            return f"docker node update --availability active {hostname(node)}"
        return f"sudo systemctl start docker, on {hostname(node)}"
    return ""


def _smaller(demand: Demand, fit: Sequence[Node], left: Mapping[str, Amount], placed: int) -> str:
    """Return the change of the config that helps: more on a node, smaller ones, or fewer."""
    rooms = [_room(demand.each, left[node["ID"]]) for node in fit]
    if sum(rooms) >= demand.tasks:
        enough = next(n for n in range(1, demand.tasks + 1) if _total(rooms, n) >= demand.tasks)
        return set_command("workersPerNode", str(enough))
    if placed:
        return set_command("workers", str(placed))
    together = min(demand.per_node, math.ceil(demand.tasks / len(fit)))
    cpus, memory_bytes = (max(left[node["ID"]][which] for node in fit) for which in (0, 1))
    if demand.each.memory_bytes > memory_bytes:
        return set_command("workerMemory", f"{max(memory_bytes, 0) // together // 2**20}MiB")
    return set_command("workerCpus", f"{max(cpus, 0) / together / 1e9:.3g}")


def _total(rooms: Iterable[int], per_node: int) -> int:
    return sum(min(room, per_node) for room in rooms)
