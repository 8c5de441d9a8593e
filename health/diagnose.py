"""From what the Swarm knows to a report that a person can act on; pure, over plain dicts."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from swarm.causes import MAX_FAILURES, REFUSED, Cause, Context, error_of, explain
from swarm.nodes import Node, Task, hostname
from swarm.snapshot import Snapshot, replicas

LOG_LINES = 5
LOG_WIDTH = 200
TASKS_SHOWN = 20  # of one service

_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b.|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SECRET = re.compile(
    r"(?ix) ( (?: token | passw(?:or)?d | secret | api_?key | authorization ) [\w-]* ['\"]?"
    r" \s* [=:] \s* ['\"]? ) (?: (?: basic | bearer | token ) \s+ )? [^\s&'\"]+"
)
_PASSWORD_IN_URL = re.compile(r"(://[^\s/:@]*:)[^\s/@]+(?=@)")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a report is made of: the watched services and their tasks, nodes, every task there is.

    `logs` is task id to last lines; `idle` holds the running tasks whose worker the scheduler
    does not know, `accused` are the tasks that the headline names by their ids.
    """

    now: Snapshot
    nodes: Sequence[Node]
    tasks: Sequence[Task]
    logs: Mapping[str, Sequence[str]]
    idle: frozenset[str] = frozenset()
    accused: Sequence[Task] = ()


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A slot of a service without a working task: its newest task, if any, and the last error.

    `kept` when one from before the update still works there.
    """

    name: str
    task: Task | None
    failed: Task | None
    failures: int
    kept: bool = False


def missing(now: Snapshot, name: str, idle: Iterable[str] = ()) -> list[Missing]:
    """Return the slots of a service that no task works in, in order."""
    by_slot, ever = _by_slot(now.current(name)), _by_slot(now.tasks_of(name))
    slots = sorted(by_slot.keys() | set(range(1, replicas(now.services[name]) + 1)))
    found = []
    for slot in slots:
        tasks = sorted(by_slot.get(slot, []), key=lambda t: str(t["CreatedAt"]), reverse=True)
        if not any(_works(task) and task["ID"] not in idle for task in tasks):
            failed = [task for task in tasks if error_of(task)]
            found.append(
                Missing(
                    name=f"{name}.{slot}",
                    task=tasks[0] if tasks else None,
                    failed=failed[0] if failed else None,
                    failures=sum(_state(task) in ("failed", "rejected") for task in failed),
                    kept=any(
                        _works(task) and task["ID"] not in idle for task in ever.get(slot, [])
                    ),
                )
            )
    return found


def _by_slot(tasks: Iterable[Task]) -> dict[int, list[Task]]:
    slots: dict[int, list[Task]] = {}
    for task in tasks:
        slots.setdefault(task.get("Slot", 1), []).append(task)
    return slots


def _state(task: Task) -> str:
    return str(task["Status"]["State"])


def _works(task: Task) -> bool:
    return (_state(task), task["DesiredState"]) == ("running", "running")


def hopeless(now: Snapshot, names: Iterable[str], nodes: Sequence[Node] = ()) -> str | None:
    """Return why waiting longer cannot help, None when it may.

    With `nodes` given, tasks that wait for a place are judged too; without, only those that have
    failed `MAX_FAILURES` times, or once for a reason that no attempt can mend.
    """
    for name in (each for each in names if each in now.services):
        context = Context(service=now.services[name], nodes=nodes, tasks=())
        for slot in missing(now, name):
            if slot.failed is None or not _judged(slot, slot.failed, nodes):
                continue
            cause = explain(error_of(slot.failed), context)
            if cause and cause.permanent:
                return f"{slot.name} cannot start: {cause.text}"
    return None


def _judged(slot: Missing, failed: Task, nodes: Sequence[Node]) -> bool:
    if _state(failed) == "pending":
        return bool(nodes)
    return slot.failures >= MAX_FAILURES or re.search(REFUSED, error_of(failed)) is not None


def report(headline: str, names: Iterable[str], evidence: Evidence) -> str:
    """Return the whole message: the headline, then each service that has tasks missing."""
    sections = [_accused(task, evidence) for task in evidence.accused]
    sections += [_section(name, evidence) for name in names]
    return "\n\n".join([headline, *("\n".join(lines) for lines in sections if lines)])


def _accused(task: Task, evidence: Evidence) -> list[str]:
    """Return what became of a task that an update failed by; its spec may be gone already."""
    slot = Missing(name=f"task {task['ID']}", task=task, failed=task, failures=1)
    spec = {"TaskTemplate": task["Spec"]}
    context = Context(service={"Spec": spec}, nodes=evidence.nodes, tasks=evidence.tasks)
    lines = [*_causes([slot], context), *_log(slot, evidence)]
    return [_task_line(slot, evidence), *(f"  {line}" for line in lines)]


def _section(name: str, evidence: Evidence) -> list[str]:
    service = evidence.now.services.get(name)
    if service is None:
        return [f"{name}: the Swarm has no such service"]
    slots = missing(evidence.now, name, evidence.idle)
    if not slots:
        return []
    context = Context(service=service, nodes=evidence.nodes, tasks=evidence.tasks)
    wanted = replicas(service)
    shown = slots[:TASKS_SHOWN]
    lines = [f"{name}: {wanted - len(slots)} of {wanted} tasks work"]
    lines += [f"  {_task_line(slot, evidence)}" for slot in shown]
    if len(slots) > len(shown):
        lines.append(f"  and {len(slots) - len(shown)} more")
    lines += [f"  {line}" for line in _causes(shown, context)]
    return lines + [f"  {line}" for slot in shown for line in _log(slot, evidence)]


def _task_line(slot: Missing, evidence: Evidence) -> str:
    if slot.task is None:
        none = "not updated yet" if slot.kept else "the Swarm has made no task yet"
        return f"{slot.name}: {none}"
    where = _place(slot.task, evidence.nodes)
    line = f"{slot.name}: {_state(slot.task)} {where}"
    if slot.task["ID"] in evidence.idle:
        line += ", but the scheduler does not know its worker"
    if slot.failed and slot.failed is not slot.task:
        before = _place(slot.failed, evidence.nodes)
        line += f"; before, {_state(slot.failed)} {before}"
    if slot.failures > 1:
        line += f", {slot.failures} times"
    if slot.kept:
        line += ", while the one before the update still works"
    return f"{line}: {clean(error_of(slot.failed))}" if slot.failed else line


def _place(task: Task, nodes: Iterable[Node]) -> str:
    names = [hostname(node) for node in nodes if node["ID"] == task.get("NodeID")]
    return f"on {names[0]}" if names else "on no node"


def _causes(slots: Iterable[Missing], context: Context) -> list[str]:
    errors = dict.fromkeys(error_of(slot.failed) for slot in slots if slot.failed)
    causes: dict[str, Cause] = {}
    for error in errors:
        if cause := explain(error, context):
            causes[cause.text] = cause
    lines = []
    for cause in causes.values():
        lines.append(f"cause: {cause.text}")
        lines += [f"fix:   {cause.fix}"] if cause.fix else []
    return lines


def _log(slot: Missing, evidence: Evidence) -> list[str]:
    for task in (slot.failed, slot.task):
        lines = evidence.logs.get(task["ID"]) if task else None
        if task and lines:
            head = f"last lines of {slot.name} {_place(task, evidence.nodes)}:"
            return [head, *(f"  | {clean(line)}" for line in lines[-LOG_LINES:])]
    return []


def clean(text: str) -> str:
    """Return one line from a container as it may be shown: short, printable, without secrets."""
    plain = _CONTROL.sub("", text[: 10 * LOG_WIDTH]).replace("\n", " ").replace("\t", " ").strip()
    plain = _PASSWORD_IN_URL.sub(r"\1***", _SECRET.sub(r"\1***", plain))
    return plain if len(plain) <= LOG_WIDTH else plain[: LOG_WIDTH - 1] + "…"
