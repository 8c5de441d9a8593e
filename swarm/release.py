"""Waits until no task is on a network, so that the network can be removed.

    DOCKER_HOST=… python -m swarm.release < request.json

Reads the id of the network, one JSON object, on standard input. By then the stack's services are
removed, so a service that is still on the network keeps it in use: it is named as the error. A
node that is down is not waited for.
"""

import json
import sys
import time

from swarm.manager import MANAGER_ERRORS, Manager, manager_address
from swarm.networks import leave_commands, services_on
from swarm.nodes import Task
from swarm.progress import Progress
from swarm.shutdown import TIMEOUT_SECONDS, count_by_node, ending


def main() -> int:
    """Carry out the request on standard input and return the exit code."""
    try:
        network_id = str(json.loads(sys.stdin.read())["network"])
        problem = release(Manager(), network_id, Progress())
    except (TypeError, KeyError, ValueError) as error:
        problem = f"the request on standard input is not understood: {error}"
    except MANAGER_ERRORS as error:
        problem = f"the Swarm manager at {manager_address()}: {error}"
    if problem:
        print(problem, file=sys.stderr)
    return 1 if problem else 0


def release(manager: Manager, network_id: str, progress: Progress) -> str:
    """Wait for the network's tasks, at most `TIMEOUT_SECONDS`; return what keeps it in use."""
    if users := services_on(manager.objects("service"), network_id):
        fix = leave_commands(users, network_id)
        return f"the network {network_id} is in use by {', '.join(users)}; fix: {fix}"
    while progress.elapsed < TIMEOUT_SECONDS:
        nodes = manager.nodes()
        tasks = [task for task in manager.tasks() if is_on(task, network_id)]
        waiting = ending(tasks, nodes)
        if not waiting:
            break
        progress.update(f"tasks are ending: {count_by_node(waiting, nodes)}")
        time.sleep(manager.poll_seconds)
    return ""


def is_on(task: Task, network_id: str) -> bool:
    """Return whether a task is on a network."""
    attachments = task.get("NetworksAttachments") or []
    return network_id in [attachment["Network"]["ID"] for attachment in attachments]


if __name__ == "__main__":
    sys.exit(main())
