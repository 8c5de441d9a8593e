"""The cost of a worker: the time from its container's start to its registration, and its memory.

A worker's container is killed and its replacement measured: no other start competes with it, and
it has imported nothing for a computation.
"""

import json
import time
from collections.abc import Iterator
from datetime import datetime

import docker

from bench.context import Container, Context, containers_of, run_in_notebook
from bench.faults import CONTAINER_KILLED
from bench.measure import report
from bench.recovery import seconds_after
from lab.layout import Lab

# Prints the time when each worker registered, by host.
JOINED = """
import json
from distributed import Client
from distributed.comm import get_address_host
with Client("scheduler:8786", timeout="30s") as client:
    events = client.get_events("all")
    joins = [(when, e["worker"]) for when, e in events if e.get("action") == "add-worker"]
    print(json.dumps({get_address_host(address): when for when, address in joins}))
"""
SECONDS = 60
REST_SECONDS = 5


def worker(context: Context, rounds: int) -> Iterator[str]:
    """Yield the tables of a worker's start and of its memory."""
    starts: dict[str, list[float]] = {}
    memory: dict[str, list[float]] = {}
    for stack in context.stacks:
        with context.deployed(stack):
            measured = [_measure(context.lab) for _ in range(rounds)]
        starts[stack.name] = [seconds for seconds, _ in measured]
        memory[stack.name] = [mib for _, mib in measured]
    yield report("Seconds from a worker's container to registered", starts)
    yield report("MiB of a worker that rests", memory)


def _measure(lab: Lab) -> tuple[float, float]:
    """Return the seconds to the registration and the MiB of a worker before its first task."""
    seconds_after(lab, CONTAINER_KILLED)
    newest = max(workers_of(lab), key=_start_time)
    seconds = _join_time(lab, newest) - _start_time(newest)
    time.sleep(REST_SECONDS)
    return seconds, mib(newest)


def _join_time(lab: Lab, container: Container) -> float:
    printed = run_in_notebook(lab.docker_host, "who joined when", JOINED, SECONDS)
    joined: dict[str, float] = json.loads(printed)
    networks = container.attrs["NetworkSettings"]["Networks"].values()
    addresses = {network["IPAddress"] for network in networks}
    (seconds,) = (joined[address] for address in addresses & joined.keys())
    return seconds


def _start_time(container: Container) -> float:
    return datetime.fromisoformat(container.attrs["State"]["StartedAt"]).timestamp()


def mib(container: Container) -> float:
    """Return the memory of a container's processes, without cached files."""
    stats: dict[str, int] = container.stats(stream=False)["memory_stats"]["stats"]
    return stats["total_rss" if "total_rss" in stats else "anon"] / 2**20  # cgroup v1 or v2


def workers_of(lab: Lab) -> list[Container]:
    """Return the workers' running containers on all nodes but the manager."""
    # The clients stay open: the containers need them later.
    engines = [docker.DockerClient(node.docker_host) for node in lab.nodes[1:]]
    return [container for engine in engines for container in containers_of(engine, "dask_worker")]
