"""Gathers what a report is made of; the manager's answers are bounded in time."""

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from health.diagnose import LOG_LINES, Evidence, missing
from swarm.manager import MANAGER_ERRORS, Manager
from swarm.nodes import Node, Task, hostname
from swarm.snapshot import Snapshot, is_worker, task_by_address

LOGS_SECONDS = 6  # a node that is away does not answer at all


def inquire(
    manager: Manager,
    now: Snapshot,
    network_id: str,
    members: Sequence[str] | None,
    headline: str,
) -> Evidence:
    """Return the evidence about the services in `now`; `members` are the workers last seen."""
    idle = _idle(now, network_id, members)
    accused = tuple(task for task in now.tasks if task["ID"] in headline)
    troubled = [
        name
        for name in now.services
        if missing(now, name, idle) or any(task in accused for task in now.tasks_of(name))
    ]
    return Evidence(
        now=now,
        nodes=manager.nodes() if troubled else [],
        tasks=manager.tasks() if troubled else [],
        logs=_last_lines([now.services[name]["ID"] for name in troubled]),
        idle=idle,
        accused=accused,
    )


def _idle(now: Snapshot, network_id: str, members: Sequence[str] | None) -> frozenset[str]:
    """Return the ids of the running workers' tasks that are not among the members."""
    if members is None:
        return frozenset()
    known = {urlsplit(member).hostname for member in members}
    return frozenset(
        task["ID"]
        for name, service in now.services.items()
        if is_worker(service)
        for address, task in task_by_address(now.tasks_of(name), network_id).items()
        if address not in known and task["Status"]["State"] == "running"
    )


def _last_lines(service_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Return task id to last log lines, as far as they arrive in `LOGS_SECONDS`."""
    found: dict[str, list[str]] = defaultdict(list)

    def fetch() -> None:
        with suppress(*MANAGER_ERRORS):
            manager = Manager()
            for service_id in service_ids:
                for task_id, line in manager.last_lines(service_id, LOG_LINES):
                    found[task_id].append(line)

    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    thread.join(LOGS_SECONDS)
    return {task_id: list(lines) for task_id, lines in list(found.items())}


def places(now: Snapshot, nodes: Sequence[Node], network_id: str) -> dict[str, tuple[str, str]]:
    """Return the address of each task that should be running to its name and its node's name.

    A node shares its hostname with another only by mistake; its id then tells them apart.
    """
    names = [hostname(node) for node in nodes]
    hosts = {
        node["ID"]: name if names.count(name) == 1 else f"{name} ({node['ID']})"
        for node, name in zip(nodes, names, strict=True)
    }
    found = {}
    for name in now.services:
        for address, task in task_by_address(now.tasks_of(name), network_id).items():
            label = f"{name}.{task['Slot']}" if "Slot" in task else name
            found[address] = (label, hosts.get(_node_id(task), "an unknown node"))
    return found


def _node_id(task: Task) -> str:
    return str(task.get("NodeID") or "")
