"""Whether the nodes have room for the stack's services; pure, over nodes and tasks.

Owns the placing of all tasks on what other services have left of the nodes. The stack's own
running tasks do not count: they end before their successors start.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from config.problems import Problem, set_command
from config.types import PLATFORMS, spell_size
from config.workloads import ResourceLimit, Workload
from swarm.causes import unmatched
from swarm.nodes import (
    Node,
    Task,
    fits,
    free,
    hostname,
    missing_label,
    resources,
    spell_platform,
    spell_room,
    spell_state,
    usable,
)

Amount = tuple[int, int]  # CPUs in billionths, bytes of memory


def shortages(
    workloads: Iterable[Workload],
    platforms: Sequence[str],
    nodes: Sequence[Node],
    tasks: Sequence[Task],
) -> list[Problem]:
    """Return what each workload lacks; `tasks` are those of other services."""
    left = {node["ID"]: free(node, tasks) for node in nodes}
    problems = [_place(workload, platforms, nodes, left) for workload in workloads]
    # Services on the same nodes have the same problem.
    return list(dict.fromkeys(problem for problem in problems if problem))


def _place(
    workload: Workload, platforms: Sequence[str], nodes: Sequence[Node], left: dict[str, Amount]
) -> Problem | None:
    """Take what `workload` reserves from `left`; return the problem if it does not fit."""
    key, constraints = workload.placement_key, workload.constraints
    if cause := unmatched(constraints, nodes):
        fix = cause.fix or set_command(key, "node.role==manager")
        return Problem(
            key=key, found=cause.text, expected="constraints that some node meets", fix=fix
        )
    matching = [node for node in nodes if fits(node, constraints)]
    fit = [node for node in matching if fits(node, (), platforms)]
    others = [node for node in matching if node not in fit]
    if not fit:
        return Problem(
            key="platform",
            found=f"no node of {key} is {' or '.join(platforms)}",
            expected=", ".join(sorted({*map(spell_platform, others)})),
            fix=_allow(others, {*platforms} & {*map(spell_platform, nodes)})
            or f"{set_command(key, '…')}, for nodes of {' or '.join(platforms)}",
        )
    if problem := _oversized(workload, fit):
        return problem
    before = dict(left)
    placed = _take(workload, [node for node in fit if usable(node)], left)
    if placed == _count(workload):
        return None
    problem = _shortage(workload, sorted(fit, key=hostname), before, placed)
    could = [node for node in nodes if usable(node) and fits(node, (), platforms)]
    problem = _with_unlabelled(problem, constraints, sorted(could, key=hostname))
    return _with_others(problem, sorted(others, key=hostname), platforms)


def _allow(others: Iterable[Node], platforms: Collection[str]) -> str:
    """Return the command that adds the nodes' platforms; empty if images can have none of them."""
    added = {*map(spell_platform, others)} & {*PLATFORMS}
    allowed = [platform for platform in PLATFORMS if platform in {*platforms, *added}]
    return set_command("platform", ",".join(allowed)) if added else ""


def _with_unlabelled(
    problem: Problem, constraints: Sequence[str], nodes: Sequence[Node]
) -> Problem:
    """Return a shortage with the nodes that only lack a label, if any, and how to add it."""
    lacking = [(hostname(n), label) for n in nodes if (label := missing_label(n, constraints))]
    if not lacking:
        return problem
    names = "".join(f"; {name} has no label {label}" for name, label in lacking)
    name, label = lacking[0]
    fix = f"{problem.fix}, or docker node update --label-add {label} {name}"
    return replace(problem, found=problem.found + names, fix=fix)


def _with_others(problem: Problem, others: Sequence[Node], platforms: Collection[str]) -> Problem:
    """Return a shortage with the nodes of other platforms, if any, and how to use them."""
    names = "".join(f"; {hostname(n)} is {spell_platform(n)}, not in platform" for n in others)
    allow = _allow(others, platforms)
    fix = f"{problem.fix}, or with images for both {allow}" if allow else problem.fix
    return replace(problem, found=problem.found + names, fix=fix)


def _oversized(workload: Workload, fit: Iterable[Node]) -> Problem | None:
    """Return the problem of workers that may use more than a node has which takes them.

    Swarm compares reservations only. Then the engine refuses the CPUs, and Dask the memory.
    """
    for node in sorted(fit, key=hostname) if workload.runs_workers else ():
        cpus, memory = size = resources(node["Description"].get("Resources"))
        if not _room(workload.reservation, size):
            continue
        for key, limit, most, spell in (
            ("workerCpus", workload.limit.nano_cpus, cpus, _spell_cpus),
            ("workerMemory", workload.limit.memory_bytes, memory, _spell_memory),
        ):
            if limit > most:
                return Problem(
                    key=key,
                    found=f"{spell(limit)}, but {hostname(node)} has {spell(most)}",
                    expected="at most what each of the nodes has",
                    fix=set_command(key, spell(most)),
                )
    return None


def _spell_cpus(nano_cpus: int) -> str:
    return f"{nano_cpus / 1e9:.3g}"


def _spell_memory(size: int) -> str:
    return f"{size // 2**20}MiB"


def _count(workload: Workload) -> int:
    # Swarm leaves out nodes without room for a service that runs everywhere.
    return 1 if workload.replicas == "everywhere" else workload.replicas


def _take(workload: Workload, usable_nodes: Sequence[Node], left: dict[str, Amount]) -> int:
    """Place the tasks, on the emptiest node first; return how many have room."""
    missing, reservation = _count(workload), workload.reservation
    for node in sorted(usable_nodes, key=lambda node: left[node["ID"]][1], reverse=True):
        cpus, memory = left[node["ID"]]
        count = min(missing, workload.per_node or missing, _room(reservation, left[node["ID"]]))
        left[node["ID"]] = (
            cpus - count * reservation.nano_cpus,
            memory - count * reservation.memory_bytes,
        )
        missing -= count
    return _count(workload) - missing


def _room(reservation: ResourceLimit, left: Amount) -> int:
    return max(min(left[0] // reservation.nano_cpus, left[1] // reservation.memory_bytes), 0)


def _shortage(
    workload: Workload, fit: Sequence[Node], left: Mapping[str, Amount], placed: int
) -> Problem:
    """Return the problem of a workload with room for only `placed` tasks in `left`."""
    reservation = workload.reservation
    amount = f"{reservation.nano_cpus / 1e9:.4g} CPU and {spell_size(reservation.memory_bytes)}"
    nodes = "; ".join(_described(node, left[node["ID"]]) for node in fit)
    if not workload.runs_workers:
        return Problem(
            key=workload.placement_key,
            found=f"{workload.name} has no room; it reserves {amount}; {nodes}",
            expected="nodes with room for it",
            fix=_wake(fit) or f"docker node ps {hostname(fit[0])}",
        )
    count = _count(workload)
    fits = f"{count} workers have no room"
    if _wake(fit) and placed:
        fits = f"{placed} of {count} workers fit now"
    return Problem(
        key="workers",
        found=f"{fits}; each reserves {amount}, "
        f"and a node takes at most workersPerNode {workload.per_node}; {nodes}",
        expected=f"at most {placed} of this size" if placed else "a size that a node has left",
        fix=_wake(fit) or _smaller(workload, fit, left, placed),
    )


def _described(node: Node, left: Amount) -> str:
    return spell_room(node, left) if usable(node) else spell_state(node)


def _wake(fit: Sequence[Node]) -> str:
    """Return the command that makes an unusable node usable, empty if all are."""
    for node in fit:
        if not usable(node) and node["Spec"]["Availability"] != "active":
            return f"docker node update --availability active {hostname(node)}"
        if not usable(node):
            return f"sudo systemctl start docker, on {hostname(node)}"
    return ""


def _smaller(
    workload: Workload, fit: Sequence[Node], left: Mapping[str, Amount], placed: int
) -> str:
    """Return the command that helps: more workers on a node, fewer, or smaller ones."""
    count, reservation = _count(workload), workload.reservation
    rooms = [_room(reservation, left[node["ID"]]) for node in fit]
    if sum(rooms) >= count:
        enough = next(n for n in range(1, count + 1) if _total(rooms, n) >= count)
        return set_command("workersPerNode", str(enough))
    if placed:
        return set_command("workers", str(placed))
    together = min(workload.per_node or count, math.ceil(count / len(fit)))
    cpus, memory = (max(left[node["ID"]][which] for node in fit) for which in (0, 1))
    if reservation.memory_bytes > memory:
        overcommits = reservation.memory_bytes < workload.limit.memory_bytes
        key = "workerReservedMemory" if overcommits else "workerMemory"
        return set_command(key, _spell_memory(max(memory, 0) // together))
    key = "workerReservedCpus" if reservation.cpus < workload.limit.cpus else "workerCpus"
    return set_command(key, _spell_cpus(max(cpus, 0) // together))


def _total(rooms: Iterable[int], per_node: int) -> int:
    return sum(min(room, per_node) for room in rooms)
