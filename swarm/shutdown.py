"""Ends the tasks of a stack before its services and networks are removed.

    DOCKER_HOST=… python -m swarm.shutdown < request.json

Reads the names of the services and the ids of the networks, one JSON object, on standard input.
Swarm does not remove a network while it has tasks, and a node keeps the network until they have
ended. So this program scales all services to zero, in the given order, and waits for their tasks.
It does not wait for tasks on a node that is down: such a node cannot report their end. If another
stack's service is on a network, this program ends nothing and fails.
"""

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence

from swarm.manager import (
    MANAGER_ERRORS,
    PROBE_LABELS,
    Manager,
    cluster_of,
    manager_address,
)
from swarm.networks import leave_commands, services_on
from swarm.nodes import Node, Task, hostname
from swarm.progress import Progress
from swarm.snapshot import ENDED

# Longer than a task's grace period, and longer than Swarm needs to notice that a node is down.
TIMEOUT_SECONDS = 75


def main() -> int:
    """Carry out the request on standard input and return the exit code."""
    try:
        request = json.loads(sys.stdin.read())
        names = [str(name) for name in request["services"]]
        networks = [str(network) for network in request.get("networks", [])]
    except (TypeError, KeyError, ValueError) as error:
        print(f"the request on standard input is not understood: {error}", file=sys.stderr)
        return 1
    try:
        manager = Manager()
        if problems := foreign_users(manager, names, networks):
            print("\n".join(["nothing is ended", *problems]), file=sys.stderr)
            return 1
        shut_down(manager, names, Progress())
    except MANAGER_ERRORS as error:
        print(f"the Swarm manager at {manager_address()}: {error}", file=sys.stderr)
        return 1
    return 0


def foreign_users(manager: Manager, names: Sequence[str], network_ids: Sequence[str]) -> list[str]:
    """Return what keeps the networks in use, other than the named services and probes."""
    foreign = [s for s in manager.objects("service") if s["Spec"]["Name"] not in names]
    networks = [n for n in manager.objects("network") if n["Id"] in network_ids]
    return [
        f"{network['Name']}: in use by {', '.join(users)}, so it cannot be removed; "
        f"fix: {leave_commands(users, network['Name'])}"
        for network in networks
        if (users := services_on(foreign, network["Id"]))
    ]


def shut_down(manager: Manager, names: Sequence[str], progress: Progress) -> None:
    """Remove the services of their cluster's probes and end the tasks of the named services."""
    clusters = {cluster_of(name) for name in names}
    for leftover in manager.labelled(PROBE_LABELS).services:
        if cluster_of(leftover) in clusters:
            manager.remove(leftover)
    end_tasks(manager, names, progress)


def end_tasks(manager: Manager, names: Sequence[str], progress: Progress) -> None:
    """Scale the services to zero and wait for their tasks, at most `TIMEOUT_SECONDS`."""
    for name in names:
        manager.scale(name, 0)
    while True:
        tasks, nodes = manager.snapshot(names).tasks, manager.nodes()
        waiting = ending(tasks, nodes)
        if not waiting or progress.elapsed > TIMEOUT_SECONDS:
            break
        progress.update(f"tasks are ending: {count_by_node(waiting, nodes)}")
        time.sleep(manager.poll_seconds)
    if running := unfinished(tasks):
        progress.log(
            f"tasks still run as far as Swarm knows: {count_by_node(running, nodes)}; "
            "they end when the engine of their node answers again"
        )


def unfinished(tasks: Iterable[Task]) -> list[Task]:
    """Return the tasks that have not reported their end."""
    return [task for task in tasks if task["Status"]["State"] not in ENDED]


def ending(tasks: Iterable[Task], nodes: Iterable[Node]) -> list[Task]:
    """Return the tasks to wait for, without the tasks on nodes that are down.

    An ended task counts until Swarm has deleted it: the manager of engine 20.10 panics when its
    service is removed meanwhile (swarmkit, orchestrator.SetServiceTasksRemove).
    """
    down = {node["ID"] for node in nodes if node["Status"]["State"] == "down"}
    waiting = [t for t in tasks if t["DesiredState"] == "remove" or unfinished([t])]
    return [task for task in waiting if task.get("NodeID") not in down]


def count_by_node(tasks: Iterable[Task], nodes: Iterable[Node]) -> str:
    """Return `3 on lab-data-1, 1 on lab-master`."""
    names: Mapping[str, str] = {node["ID"]: hostname(node) for node in nodes}
    places = [names.get(str(task.get("NodeID") or ""), "no node yet") for task in tasks]
    return ", ".join(f"{places.count(place)} on {place}" for place in sorted(set(places)))


if __name__ == "__main__":
    sys.exit(main())
