"""Whether the nodes have room for the stack's services; pure, over nodes and tasks.

Owns the placing of all tasks on what other services have left of the nodes. The stack's own
running tasks do not count: they end before their successors start, but those that are updated
start-first. Each of these needs room for two tasks during an update.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from config.problems import Problem, set_command
from config.settings import accepts
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


@dataclass(frozen=True, kw_only=True)
class Room:
    """What the nodes have left, by node id; new tasks take of it."""

    nodes: Sequence[Node]
    platforms: Sequence[str]
    left: dict[str, Amount]

    @classmethod
    def of(cls, platforms: Sequence[str], nodes: Iterable[Node], tasks: Sequence[Task]) -> "Room":
        """Return what `tasks` leave of nodes."""
        left = {node["ID"]: free(node, tasks) for node in nodes}
        return cls(nodes=sorted(nodes, key=hostname), platforms=platforms, left=left)

    def copy(self) -> "Room":
        """Return the same room, for tasks that are only tried."""
        return replace(self, left=dict(self.left))

    def fit(self, workload: Workload) -> list[Node]:
        """Return the nodes that a workload may run on, available or not."""
        return [node for node in self.nodes if fits(node, workload.constraints, self.platforms)]

    def take(self, workload: Workload, nodes: Sequence[Node] = ()) -> int:
        """Place the tasks, on the emptiest node first; return how many have room.

        They go to `nodes` only, if there are any.
        """
        missing, reservation = _count(workload), workload.reservation
        takers = [node for node in nodes or self.fit(workload) if usable(node)]
        for node in sorted(takers, key=lambda node: self.left[node["ID"]][1], reverse=True):
            cpus, memory = self.left[node["ID"]]
            count = min(missing, workload.per_node or missing, self.tasks(workload, node))
            self.left[node["ID"]] = (
                cpus - count * reservation.nano_cpus,
                memory - count * reservation.memory_bytes,
            )
            missing -= count
        return _count(workload) - missing

    def tasks(self, workload: Workload, node: Node) -> int:
        """Return how many tasks a node has room for."""
        return _tasks(workload.reservation, self.left[node["ID"]])

    def beside(self, workloads: Iterable[Workload]) -> "Room":
        """Return what is left beside the tasks of workloads, or a second task of each."""
        rest = self.copy()
        for workload in workloads:
            rest.take(workload)
        return rest

    def describe(self, nodes: Iterable[Node]) -> str:
        """Return what each node has left, or why it takes no task."""
        return "; ".join(
            spell_room(node, self.left[node["ID"]]) if usable(node) else spell_state(node)
            for node in nodes
        )


def shortages(workloads: Sequence[Workload], unreserved: Room) -> list[Problem]:
    """Return what each workload lacks; `unreserved` is what other services leave."""
    room, updated = unreserved.copy(), _updated(workloads)
    problems = [_place(workload, updated, room) for workload in workloads]
    # Services on the same nodes have the same problem.
    return list(dict.fromkeys(problem for problem in problems if problem))


def update_shortages(workloads: Sequence[Workload], unreserved: Room) -> list[Problem]:
    """Return the problem of a stack that fits, but without room for an update, if it has it.

    Room for one second task at a time is enough: the end of an old task makes room for the next.
    The workers are the last of the workloads.
    """
    *others, workers = workloads
    room, updated = unreserved.beside(others), _updated(workloads)
    stuck = [workload for workload in updated if not _fits_twice(workload, workers, room)]
    if not stuck:
        return []
    first = stuck[0]
    fit = room.fit(first)
    fix = _wake(fit)
    if not fix and room.copy().take(first):  # then the workers have its room
        fix = _smaller(workers, room.beside(updated))
    problem = Problem(
        key=first.placement_key,
        found=f"no room to update {' and '.join(workload.name for workload in stuck)}: "
        f"a new task, which reserves {_spell_amount(first.reservation)}, starts before the old "
        f"task stops; {room.beside([workers]).describe(fit)}",
        expected="room for both tasks",
        fix=fix or f"docker node ps {hostname(fit[0])}",
    )
    return [_with_alternatives(problem, first, room)]


def _updated(workloads: Iterable[Workload]) -> list[Workload]:
    """Return the workloads whose updates need room for a second task."""
    return [workload for workload in workloads if workload.start_first]


def _fits_twice(workload: Workload, workers: Workload, room: Room) -> bool:
    """Return whether some node has room for a second task that costs no worker its place."""
    for node in room.fit(workload):
        rest = room.copy()
        if rest.take(workload, [node]) and rest.take(workers) == room.copy().take(workers):
            return True
    return False


def _place(workload: Workload, updated: Sequence[Workload], room: Room) -> Problem | None:
    """Take what `workload` reserves from `room`; return the problem if it does not fit.

    The fix leaves room for second tasks of the `updated` workloads, if it can.
    """
    key, constraints, platforms = workload.placement_key, workload.constraints, room.platforms
    if cause := unmatched(constraints, room.nodes):
        fix = cause.fix or set_command(key, "node.role==manager")
        return Problem(
            key=key, found=cause.text, expected="constraints that some node meets", fix=fix
        )
    fit = room.fit(workload)
    if not fit:
        others = _on_other_platforms(workload, room)
        return Problem(
            key="platform",
            found=f"no node of {key} is {' or '.join(platforms)}",
            expected=", ".join(sorted({*map(spell_platform, others)})),
            fix=_allow(others, {*platforms} & {*map(spell_platform, room.nodes)})
            or f"{set_command(key, '…')}, for nodes of {' or '.join(platforms)}",
        )
    if problem := _oversized(workload, fit):
        return problem
    before = room.copy()
    placed = room.take(workload)
    if placed == _count(workload):
        return None
    if workload.runs_workers:
        problem = _worker_shortage(workload, placed, before, before.beside(updated))
    else:
        problem = _shortage(workload, before)
    return _with_alternatives(problem, workload, before)


def _on_other_platforms(workload: Workload, room: Room) -> list[Node]:
    """Return the nodes that meet the constraints, but have another platform."""
    matching = [node for node in room.nodes if fits(node, workload.constraints)]
    return [node for node in matching if not fits(node, (), room.platforms)]


def _with_alternatives(problem: Problem, workload: Workload, room: Room) -> Problem:
    """Return a shortage with the nodes that a label or another platform would add, if any."""
    could = [node for node in room.nodes if usable(node) and fits(node, (), room.platforms)]
    problem = _with_unlabelled(problem, workload.constraints, could)
    return _with_others(problem, _on_other_platforms(workload, room), room.platforms)


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
    for node in fit if workload.runs_workers else ():
        cpus, memory = size = resources(node["Description"].get("Resources"))
        if not _tasks(workload.reservation, size):
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
    return f"{nano_cpus // 10**6 / 1000:g}"  # no more than it is


def _spell_memory(size: int) -> str:
    return f"{size // 2**20}MiB"


def _count(workload: Workload) -> int:
    # Swarm leaves out nodes without room for a service that runs everywhere.
    return 1 if workload.replicas == "everywhere" else workload.replicas


def _tasks(reservation: ResourceLimit, left: Amount) -> int:
    return max(min(left[0] // reservation.nano_cpus, left[1] // reservation.memory_bytes), 0)


def _spell_amount(reservation: ResourceLimit) -> str:
    return f"{reservation.nano_cpus / 1e9:.4g} CPU and {spell_size(reservation.memory_bytes)}"


def _shortage(workload: Workload, room: Room) -> Problem:
    """Return the problem of a service, not of workers, without enough `room`."""
    fit = room.fit(workload)
    return Problem(
        key=workload.placement_key,
        found=f"{workload.name} has no room; it reserves {_spell_amount(workload.reservation)}; "
        + room.describe(fit),
        expected="nodes with room for it",
        fix=_wake(fit) or f"docker node ps {hostname(fit[0])}",
    )


def _worker_shortage(workload: Workload, placed: int, room: Room, beside: Room) -> Problem:
    """Return the problem of workers of which `room` takes only `placed`.

    The fix is for the room `beside` updates, if any size fits into it.
    """
    fit, count = room.fit(workload), _count(workload)
    found = f"{count} workers have no room"
    if _wake(fit) and placed:
        found = f"{placed} of {count} workers fit now"
    fix = _wake(fit) or _smaller(workload, beside)
    fewer = (beside if fix else room).copy().take(workload)
    expected = f"at most {fewer} of this size" if fewer else "a size that a node has left"
    if fix and beside.describe(fit) != room.describe(fit):
        expected += ", with room for updates"
    return Problem(
        key="workers",
        found=f"{found}; each reserves {_spell_amount(workload.reservation)}, "
        f"and a node takes at most workersPerNode {workload.per_node}; {room.describe(fit)}",
        expected=expected,
        fix=fix or _smaller(workload, room) or f"docker node ps {hostname(fit[0])}",
    )


def _wake(fit: Sequence[Node]) -> str:
    """Return the command that makes an unusable node usable, empty if all are."""
    for node in fit:
        if not usable(node) and node["Spec"]["Availability"] != "active":
            return f"docker node update --availability active {hostname(node)}"
        if not usable(node):
            return f"sudo systemctl start docker, on {hostname(node)}"
    return ""


def _smaller(workload: Workload, room: Room) -> str:
    """Return the command that helps: more workers on a node, fewer, or smaller ones.

    Empty if no size helps that the config may have.
    """
    count, reservation = _count(workload), workload.reservation
    takers = [node for node in room.fit(workload) if usable(node)]
    rooms = [room.tasks(workload, node) for node in takers]
    if sum(rooms) >= count:
        enough = next(n for n in range(1, count + 1) if _total(rooms, n) >= count)
        return set_command("workersPerNode", str(enough))
    if placed := room.copy().take(workload):
        return set_command("workers", str(placed))
    together = min(workload.per_node or count, math.ceil(count / len(takers)))
    cpus, memory = (max(room.left[node["ID"]][which] for node in takers) for which in (0, 1))
    if reservation.memory_bytes > memory:
        overcommits = reservation.memory_bytes < workload.limit.memory_bytes
        key = "workerReservedMemory" if overcommits else "workerMemory"
        size = _spell_memory(max(memory, 0) // together)
    else:
        key = "workerReservedCpus" if reservation.cpus < workload.limit.cpus else "workerCpus"
        size = _spell_cpus(max(cpus, 0) // together)
    return set_command(key, size) if accepts(key, size) else ""


def _total(rooms: Iterable[int], per_node: int) -> int:
    return sum(min(room, per_node) for room in rooms)
