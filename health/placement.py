"""Placement: which task and node each worker runs on, by its address."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any
from urllib.parse import urlsplit

from swarm import UnfitError
from swarm.causes import Context, waits_for_node
from swarm.nodes import Node, hostname
from swarm.snapshot import Snapshot, declared_hash, is_worker, task_by_address

# IP address to the names of the task and its node.
Locations = Mapping[str, tuple[str, str]]

_OPTIONAL = ("cell", "object_store", "prefect", "certificates")
_WORKER = re.compile(r"\b(?:tcp|tls)://(?P<host>[0-9.]+|\[[0-9a-f:]+\]):\d+")


def locations(now: Snapshot, nodes: Sequence[Node], network_id: str) -> Locations:
    """Return the locations of all tasks that should be running.

    Nodes may have the same hostname by mistake; then the node's id tells them apart.
    """
    names = [hostname(node) for node in nodes]
    node_names = {
        node["ID"]: name if names.count(name) == 1 else f"{name} ({node['ID']})"
        for node, name in zip(nodes, names, strict=True)
    }
    result = {}
    for name in now.services:
        for address, task in task_by_address(now.tasks_of(name), network_id).items():
            label = f"{name}.{task['Slot']}" if "Slot" in task else name
            node_id = str(task.get("NodeID") or "")
            result[address] = (label, node_names.get(node_id, "an unknown node"))
    return result


def missing_workers(
    now: Snapshot, start: Snapshot, declared: Mapping[str, str], nodes: Sequence[Node]
) -> tuple[int, str]:
    """Return how many workers wait for a node to come back, and the states of these nodes.

    Workers whose service was not as declared at the start do not count: the deployment updates
    them, so all of them must come.
    """
    for name, declared_now in declared.items():
        service, before = now.services.get(name), start.services.get(name)
        kept = before is not None and declared_hash(before) == declared_now
        if kept and service and is_worker(service):
            context = Context(service=service, nodes=nodes, tasks=())
            waiting = [waits_for_node(task, context) for task in now.tasks_of(name)]
            return sum(waiting), context.away
    return 0, ""


def name_workers(message: str, known: Locations) -> str:
    """Return a message with `dask_worker.3 on node-2 (tcp://10.0.1.5:40000)` for an address."""

    def named(worker: re.Match[str]) -> str:
        location = known.get(worker["host"].strip("[]"))
        where = " on ".join(location) if location else "an unknown worker"
        return f"{where} ({worker[0]})"

    return _WORKER.sub(named, message)


def node_of_worker(members: Sequence[str], known: Locations) -> dict[str, str]:
    """Return worker address to node; raises `UnfitError` for a worker that is not a known task."""
    hosts = {member: urlsplit(member).hostname or "" for member in members}
    unknown = [member for member, host in hosts.items() if host not in known]
    if unknown:
        raise UnfitError(
            f"workers that are no task of this deployment: {', '.join(unknown)}; either Swarm is "
            "still stopping them, or another program has started them and must stop them"
        )
    return {member: known[host][1] for member, host in hosts.items()}


def workers_by_node(nodes: Mapping[str, str], limit: int) -> dict[str, int]:
    """Return node to number of workers; raises `UnfitError` for a node with more than `limit`."""
    counts = dict(sorted(Counter(nodes.values()).items()))
    crowded = [f"{node} has {count}" for node, count in counts.items() if count > limit]
    if crowded:
        raise UnfitError(f"expected at most {limit} workers per node, but {', '.join(crowded)}")
    return counts


def cross_node_transfers(routes: Sequence[Sequence[str]], nodes: Mapping[str, str]) -> int:
    """Return the number of transfers between nodes; `nodes` is worker to node.

    Raises `UnfitError` unless there was a transfer from every node to every other node.
    """
    crossed = [(nodes[a], nodes[b]) for a, b in routes if nodes[a] != nodes[b]]
    missing = set(permutations(set(nodes.values()), 2)) - set(crossed)
    if missing:
        pairs = ", ".join(f"{a} to {b}" for a, b in sorted(missing))
        raise UnfitError(
            f"no transfer was tried from {pairs}: these nodes have the same boot id, as copies of "
            "a running machine do (cat /proc/sys/kernel/random/boot_id); restart one of them"
        )
    return len(crossed)


def result(proof: Mapping[str, Any], known: Locations, limit: int) -> dict[str, Any]:
    """Return the stack's output from the probe's proof; raises `UnfitError`.

    `limit` is the highest number of workers on a node.
    """
    nodes = node_of_worker(proof["members"], known)
    counts = workers_by_node(nodes, limit)
    busy = proof.get("busy", {})
    free = {worker: node for worker, node in nodes.items() if worker not in busy}
    transfers = cross_node_transfers(proof["routes"], free)
    size = {key: proof[key] for key in ("workers", "threads", "memory_bytes")}
    proven = {key: proof[key] for key in ("versions", "packages", "tasks")}
    moved = {"transfers": transfers, "transfer_bytes": proof["transfer_bytes"] if transfers else 0}
    optional = {key: proof[key] for key in _OPTIONAL if key in proof}
    if busy:
        listed = [f"{worker} runs {tasks}" for worker, tasks in sorted(busy.items())]
        optional["busy"] = [name_workers(message, known) for message in listed]
    if in_cell := optional.get("cell", {}).get("busy"):
        named = [name_workers(message, known) for message in in_cell]
        optional["cell"] = optional["cell"] | {"busy": named}
    return {**size, "nodes": counts, **proven, **moved, **optional}
