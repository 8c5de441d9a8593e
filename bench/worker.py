"""What one worker takes: the time from its container's start until it is registered, and memory.

A worker's container is killed, and the one that the Swarm starts instead is measured: nothing
competes with it for the machine, and it has imported nothing for anybody's work.
"""

import json
import time
from collections.abc import Iterator
from datetime import datetime

import docker

from bench.context import Context, run_in_notebook
from bench.measure import report
from bench.recovery import Container, containers, kill_worker_container, seconds_after
from lab.layout import Lab

# Prints when the scheduler came to know each worker, by host.
JOINED = """
import json
from distributed import Client
from distributed.comm import get_address_host
with Client("scheduler:8786", timeout="30s") as client:
    told = client.get_events("all")
    came = [(when, e["worker"]) for when, e in told if e.get("action") == "add-worker"]
    print(json.dumps({get_address_host(address): when for when, address in came}))
"""
SECONDS = 60
REST_SECONDS = 5


def worker(context: Context, rounds: int) -> Iterator[str]:
    """Yield the tables of a worker's start and of its memory."""
    starts: dict[str, list[float]] = {}
    memory: dict[str, list[float]] = {}
    for stack in context.stacks:
        with context.deployed(stack):
            measured = [_measured(context.lab) for _ in range(rounds)]
        starts[stack.name] = [seconds for seconds, _ in measured]
        memory[stack.name] = [mib for _, mib in measured]
    yield report("Seconds from a worker's container to registered", starts)
    yield report("MiB of a worker that rests", memory)


def _measured(lab: Lab) -> tuple[float, float]:
    """Return the seconds to be registered and the MiB of a worker that has done no work yet."""
    seconds_after(lab, kill_worker_container)
    newest = max(_workers(lab), key=_started)
    seconds = _joined(lab, newest) - _started(newest)
    time.sleep(REST_SECONDS)
    return seconds, _mib(newest)


def _joined(lab: Lab, container: Container) -> float:
    printed = run_in_notebook(lab.docker_host, "who joined when", JOINED, SECONDS)
    joined: dict[str, float] = json.loads(printed)
    networks = container.attrs["NetworkSettings"]["Networks"].values()
    (known,) = (joined[each["IPAddress"]] for each in networks if each["IPAddress"] in joined)
    return known


def _started(container: Container) -> float:
    return datetime.fromisoformat(container.attrs["State"]["StartedAt"]).timestamp()


def _mib(container: Container) -> float:
    """Return what its processes hold, without files in the cache."""
    told: dict[str, int] = container.stats(stream=False)["memory_stats"]["stats"]
    return told["total_rss" if "total_rss" in told else "anon"] / 2**20  # cgroup v1 or v2


def _workers(lab: Lab) -> list[Container]:
    found = []
    for node in lab.nodes[1:]:
        # Not closed here: the containers are asked for more.
        found += containers(docker.DockerClient(node.docker_host), "dask_worker")
    return found
