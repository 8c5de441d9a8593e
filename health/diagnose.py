"""Turns the state of the Swarm into a report with causes and fixes; pure, over plain dicts."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from swarm.causes import (
    MAX_FAILURES,
    REFUSED,
    Cause,
    Context,
    error_of,
    explain,
    explain_log,
    explain_silence,
    explain_start,
)
from swarm.nodes import Node, Task, hostname
from swarm.snapshot import Snapshot, replicas, works

LOG_LINES = 5
READ_LINES = 30  # a cause may be further up
LOG_WIDTH = 200
TASKS_SHOWN = 20  # of one service

_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b.|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SECRET = re.compile(
    r"(?ix) ( (?: token | passw(?:or)?d | secret | api_?key | authorization ) [\w-]* ['\"]?"
    r" \s* [=:] \s* ['\"]? ) (?: (?: basic | bearer | token ) \s+ )? [^\s&'\"]+"
)
# Up to the last '@' of the word: a password may have '@' and '/'. Digits before '/' are a port.
_PASSWORD_IN_URL = re.compile(r"(://[^\s/:\[]*:)(?!\d+[\"/])\S+(?=@)")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a report is made of: the watched services, and the Swarm's nodes and tasks.

    `logs` is task id to last lines. `unknown_workers` are the ids of running tasks whose worker
    the scheduler does not know. `blamed_tasks` are the tasks whose ids are in the headline.
    `hints` are lines about the headline itself.
    """

    now: Snapshot
    nodes: Sequence[Node]
    tasks: Sequence[Task]
    logs: Mapping[str, Sequence[str]]
    unknown_workers: frozenset[str] = frozenset()
    blamed_tasks: Sequence[Task] = ()
    hints: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class MissingSlot:
    """A slot of a service without a working task: its newest task, and its last failed task.

    With `kept` a task from before the update still works in the slot.
    """

    name: str
    task: Task | None
    failed: Task | None
    failures: int
    kept: bool = False


def missing_slots(now: Snapshot, name: str, unknown: Iterable[str] = ()) -> list[MissingSlot]:
    """Return the slots of a service without a working task, in order.

    A task whose id is in `unknown` does not work.
    """
    current, every = _by_slot(now.current(name)), _by_slot(now.tasks_of(name))
    slots = current.keys() | set(range(1, replicas(now.services[name]) + 1))

    def have_working(tasks: Iterable[Task]) -> bool:
        return any(works(task) and task["ID"] not in unknown for task in tasks)

    return [
        _missing_slot(f"{name}.{slot}", current[slot], kept=have_working(every[slot]))
        for slot in sorted(slots)
        if not have_working(current[slot])
    ]


def _missing_slot(name: str, tasks: Iterable[Task], *, kept: bool) -> MissingSlot:
    newest_first = sorted(tasks, key=lambda task: str(task["CreatedAt"]), reverse=True)
    failed = [task for task in newest_first if error_of(task)]
    return MissingSlot(
        name=name,
        task=next(iter(newest_first), None),
        failed=next(iter(failed), None),
        failures=sum(_state(task) in ("failed", "rejected") for task in failed),
        kept=kept,
    )


def _by_slot(tasks: Iterable[Task]) -> dict[int, list[Task]]:
    slots: dict[int, list[Task]] = defaultdict(list)
    for task in tasks:
        slots[task.get("Slot", 1)].append(task)
    return slots


def _state(task: Task) -> str:
    return str(task["Status"]["State"])


def unrecoverable(now: Snapshot, names: Iterable[str], nodes: Sequence[Node] = ()) -> str | None:
    """Return why a task can never start, None if it may.

    A task counts if it failed `MAX_FAILURES` times, or once because Caddy refused its files. With
    `nodes`, tasks that wait for a node count too.
    """
    for name in (name for name in names if name in now.services):
        context = Context(service=now.services[name], nodes=nodes, tasks=())
        for slot in missing_slots(now, name):
            if slot.failed is None or not _is_final(slot, slot.failed, nodes):
                continue
            cause = explain(error_of(slot.failed), context)
            if cause and cause.permanent:
                return f"{slot.name} cannot start: {cause.text}"
    return None


def _is_final(slot: MissingSlot, failed: Task, nodes: Sequence[Node]) -> bool:
    if _state(failed) == "pending":
        return bool(nodes)
    return slot.failures >= MAX_FAILURES or re.search(REFUSED, error_of(failed)) is not None


def report(headline: str, names: Iterable[str], evidence: Evidence) -> str:
    """Return the headline, the blamed tasks, then each service that has missing tasks."""
    sections = [list(evidence.hints), *(_blamed(t, evidence) for t in evidence.blamed_tasks)]
    sections += [_section(name, evidence) for name in names]
    return "\n\n".join([headline, *("\n".join(lines) for lines in sections if lines)])


def _blamed(task: Task, evidence: Evidence) -> list[str]:
    """Return the lines about a task that failed an update; its service may have another spec."""
    slot = MissingSlot(name=f"task {task['ID']}", task=task, failed=task, failures=1)
    spec = {"TaskTemplate": task["Spec"]}
    context = Context(service={"Spec": spec}, nodes=evidence.nodes, tasks=evidence.tasks)
    lines = [*_causes([slot], context, evidence), *_log(slot, evidence)]
    return [_task_line(slot, evidence), *(f"  {line}" for line in lines)]


def _section(name: str, evidence: Evidence) -> list[str]:
    service = evidence.now.services.get(name)
    if service is None:
        return [f"{name}: the service does not exist"]
    slots = missing_slots(evidence.now, name, evidence.unknown_workers)
    if not slots:
        return []
    context = Context(service=service, nodes=evidence.nodes, tasks=evidence.tasks)
    wanted = replicas(service)
    shown = slots[:TASKS_SHOWN]
    lines = [f"{name}: {wanted - len(slots)} of {wanted} tasks work"]
    lines += [f"  {_task_line(slot, evidence)}" for slot in shown]
    if len(slots) > len(shown):
        lines.append(f"  and {len(slots) - len(shown)} more")
    lines += [f"  {line}" for line in _causes(shown, context, evidence)]
    return lines + [f"  {line}" for slot in shown for line in _log(slot, evidence)]


def _task_line(slot: MissingSlot, evidence: Evidence) -> str:
    if slot.task is None:
        none = "not updated yet" if slot.kept else "no task created yet"
        return f"{slot.name}: {none}"
    line = f"{slot.name}: {_state(slot.task)} {_place(slot.task, evidence.nodes)}"
    if slot.task["ID"] in evidence.unknown_workers:
        line += ", but the scheduler does not know its worker"
    if slot.failed and slot.failed is not slot.task:
        before = _place(slot.failed, evidence.nodes)
        line += f"; before, {_state(slot.failed)} {before}"
    if slot.failures > 1:
        line += f", {slot.failures} times"
    if slot.kept:
        line += ", while the task from before the update still works"
    return f"{line}: {clean(error_of(slot.failed))}" if slot.failed else line


def _place(task: Task, nodes: Iterable[Node]) -> str:
    names = [hostname(node) for node in nodes if node["ID"] == task.get("NodeID")]
    return f"on {names[0]}" if names else "on no node"


def _causes(slots: Sequence[MissingSlot], context: Context, evidence: Evidence) -> list[str]:
    found = [
        *(explain(error_of(slot.failed), context) for slot in slots if slot.failed),
        *(explain_log(_last_lines(slot, evidence), context) for slot in slots),
        *(explain_start(slot.task, context) for slot in slots if slot.task),
        _silence(slots, context, evidence),
    ]
    lines = []
    for cause in {cause.text: cause for cause in found if cause}.values():
        lines.append(f"cause: {cause.text}")
        lines += [f"fix:   {cause.fix}"] if cause.fix else []
    return lines


def _silence(slots: Sequence[MissingSlot], context: Context, evidence: Evidence) -> Cause | None:
    """Return the cause if the scheduler knows none of the workers that run on some nodes.

    A node is left out if the log of a worker there shows another cause.
    """
    unknown = evidence.unknown_workers
    services = {
        slot.task["ServiceID"] for slot in slots if slot.task and slot.task["ID"] in unknown
    }
    running = [t for t in evidence.now.tasks if t["ServiceID"] in services and works(t)]
    heard = {
        task["NodeID"]
        for task in running
        if task["ID"] not in unknown or explain_log(evidence.logs.get(task["ID"], ()), context)
    }
    silent = [
        hostname(node)
        for node in evidence.nodes
        if node["ID"] in {task["NodeID"] for task in running} - heard
    ]
    return explain_silence(silent) if silent else None


def _last_lines(slot: MissingSlot, evidence: Evidence) -> list[str]:
    tasks = [task for task in (slot.failed, slot.task) if task]
    return [line for task in tasks for line in evidence.logs.get(task["ID"], ())]


def _log(slot: MissingSlot, evidence: Evidence) -> list[str]:
    for task in (slot.failed, slot.task):
        lines = evidence.logs.get(task["ID"]) if task else None
        if task and lines:
            head = f"last lines of {slot.name} {_place(task, evidence.nodes)}:"
            return [head, *(f"  | {clean(line)}" for line in lines[-LOG_LINES:])]
    return []


def clean(text: str) -> str:
    """Return a line from a container, made short and printable, without secrets."""
    plain = _CONTROL.sub("", text[: 10 * LOG_WIDTH]).replace("\n", " ").replace("\t", " ").strip()
    plain = _PASSWORD_IN_URL.sub(r"\1***", _SECRET.sub(r"\1***", plain))
    return plain if len(plain) <= LOG_WIDTH else plain[: LOG_WIDTH - 1] + "…"
