"""Ends the tasks of a stack before its services and networks are removed.

    DOCKER_HOST=… python -m swarm.shutdown < request.json

Reads the names of the services, one JSON object, on standard input. The Swarm refuses to remove a
network while tasks on it have not been told to end, and a node keeps it until they have: all
services are scaled to zero, in the order given, and their tasks waited for. Tasks on a node that
is down cannot tell, and nobody waits for them.
"""

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence

from swarm.manager import ENGINE_ERRORS, PROBE_LABELS, Engine, manager_address
from swarm.nodes import Node, Task, hostname
from swarm.progress import Progress
from swarm.snapshot import ENDED

# Longer than a task's grace period, and than it takes the Swarm to notice that a node is down.
PATIENCE_SECONDS = 75


def main() -> int:
    """Carry out the request on standard input and return the exit code."""
    try:
        names = [str(each) for each in json.loads(sys.stdin.read())["services"]]
    except (TypeError, KeyError, ValueError) as error:
        print(f"the request on standard input is not understood: {error}", file=sys.stderr)
        return 1
    try:
        shut_down(Engine(), names, Progress())
    except ENGINE_ERRORS as error:
        print(f"the Swarm manager at {manager_address()}: {error}", file=sys.stderr)
        return 1
    return 0


def shut_down(engine: Engine, names: Sequence[str], progress: Progress) -> None:
    """Return when no task of the services runs any more, or none that can be waited for."""
    for left in engine.labelled(PROBE_LABELS).services:
        engine.remove(left)
    for name in names:
        engine.scale(name, 0)
    while True:
        found, nodes = engine.snapshot(names).tasks, engine.nodes()
        waiting = ending(found, nodes)
        if not waiting or progress.elapsed > PATIENCE_SECONDS:
            break
        progress.tell(f"tasks are ending: {spelled(waiting, nodes)}")
        time.sleep(engine.poll_seconds)
    if left_alone := unfinished(found):
        progress.say(
            f"still running as far as the Swarm knows: {spelled(left_alone, nodes)}; "
            "they end when their node's engine answers again"
        )


def unfinished(tasks: Iterable[Task]) -> list[Task]:
    """Return the tasks that have not reported their end."""
    return [task for task in tasks if task["Status"]["State"] not in ENDED]


def ending(tasks: Iterable[Task], nodes: Iterable[Node]) -> list[Task]:
    """Return the tasks whose end is still to be heard of: not those on nodes that are down.

    One that has ended counts until the Swarm has forgotten it: the manager of engine 20.10 panics
    when a service is removed while it does (swarmkit, orchestrator.SetServiceTasksRemove).
    """
    silent = {node["ID"] for node in nodes if node["Status"]["State"] == "down"}
    there = [t for t in tasks if t["DesiredState"] == "remove" or unfinished([t])]
    return [task for task in there if task.get("NodeID") not in silent]


def spelled(tasks: Iterable[Task], nodes: Iterable[Node]) -> str:
    """Return `3 on lab-data-1, 1 on lab-master`."""
    names: Mapping[str, str] = {node["ID"]: hostname(node) for node in nodes}
    places = [names.get(str(task.get("NodeID") or ""), "no node yet") for task in tasks]
    return ", ".join(f"{places.count(place)} on {place}" for place in sorted(set(places)))


if __name__ == "__main__":
    sys.exit(main())
