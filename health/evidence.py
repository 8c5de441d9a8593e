"""Collects the evidence for a report from the manager, within a limited time."""

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from health.diagnose import READ_LINES, Evidence, missing_slots
from health.timing import TIMING
from swarm.manager import MANAGER_ERRORS, Manager
from swarm.snapshot import Snapshot, is_worker, task_by_address


def collect_evidence(
    manager: Manager,
    now: Snapshot,
    network_id: str,
    members: Sequence[str] | None,
    headline: str,
) -> Evidence:
    """Return the evidence about the services in `now`; `members` are the workers last seen."""
    unknown = _unknown_workers(now, network_id, members)
    blamed = tuple(task for task in now.tasks if task["ID"] in headline)
    failing = [
        name
        for name in now.services
        if missing_slots(now, name, unknown) or any(t in blamed for t in now.tasks_of(name))
    ]
    return Evidence(
        now=now,
        nodes=manager.nodes() if failing else [],
        tasks=manager.tasks() if failing else [],
        logs=_last_lines([now.services[name]["ID"] for name in failing]),
        unknown_workers=unknown,
        blamed_tasks=blamed,
    )


def _unknown_workers(
    now: Snapshot, network_id: str, members: Sequence[str] | None
) -> frozenset[str]:
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
    """Return task id to last log lines, as far as they arrive in time."""
    lines: dict[str, list[str]] = defaultdict(list)

    def fetch() -> None:
        with suppress(*MANAGER_ERRORS):
            manager = Manager()
            for service_id in service_ids:
                for task_id, line in manager.last_lines(service_id, READ_LINES):
                    lines[task_id].append(line)

    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    thread.join(TIMING.logs)
    return {task_id: list(known) for task_id, known in list(lines.items())}
