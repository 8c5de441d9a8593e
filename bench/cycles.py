"""Many deployments and destructions in a row: what they leave, and whether they slow down."""

import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import closing

import docker

from bench.arms import succeed
from bench.context import TIDY_SECONDS, Context
from lab.layout import Lab

CYCLES = 20
KEPT_VOLUMES = {"dask-notebook", "dask-caddy-data", "dask-prefect"}  # a destroy keeps them
EDGE = 5  # cycles at the beginning that are compared with as many at the end


def cycles(context: Context, rounds: int) -> Iterator[str]:  # noqa: ARG001  the number is fixed
    """Yield the table of seconds; raises `RuntimeError` for a cycle that leaves anything."""
    seconds: dict[str, list[float]] = {"up": [], "destroy": []}
    before = residue(context.lab)
    for number in range(1, CYCLES + 1):
        for action, values in seconds.items():
            start = time.monotonic()
            succeed(context.runner, action)
            values.append(time.monotonic() - start)
        wait_until_gone(context.lab, before)
        print(f"cycle {number}: {seconds['up'][-1]:.1f} s", file=sys.stderr)
    lines = [
        f"{f'Seconds of {CYCLES} cycles without residue':40}{'first':>7}{'last':>7}{'ratio':>7}"
    ]
    for action, values in seconds.items():
        first, last = statistics.median(values[:EDGE]), statistics.median(values[-EDGE:])
        lines.append(f"  {action:38}{first:7.1f}{last:7.1f}{last / first:7.2f}")
    yield "\n".join(lines)


def wait_until_gone(lab: Lab, before: set[str]) -> None:
    """Wait until a deployment has left nothing; Docker removes ended containers a little later."""
    deadline = time.monotonic() + TIDY_SECONDS
    while left := residue(lab) - before:
        if time.monotonic() > deadline:
            raise RuntimeError(f"left for {TIDY_SECONDS} s: {', '.join(sorted(left))}")
        time.sleep(0.5)


def residue(lab: Lab) -> set[str]:
    """Return the names of what a destroy must remove, on the Swarm and on every node."""
    found: set[str] = set()
    with closing(docker.DockerClient(lab.docker_host)) as swarm:
        for kind in (swarm.services, swarm.configs, swarm.secrets, swarm.networks):
            found |= {f"{kind.model.__name__} {resource.name}" for resource in kind.list()}
    for node in lab.nodes:
        with closing(docker.DockerClient(node.docker_host)) as engine:
            found |= {
                f"container {c.name} on {node.name}" for c in engine.containers.list(all=True)
            }
            found |= {
                f"volume {v.name} on {node.name}"
                for v in engine.volumes.list()
                if v.name not in KEPT_VOLUMES
            }
    return found
