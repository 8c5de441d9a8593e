"""Clusters of 4, 16 and 64 workers, and 4 workers beside a second cluster of 16."""

import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass

import docker

from bench.arms import Deploying, done, succeed
from bench.context import Context, configure, prepared, wait_until_empty

SIZES = (4, 16, 64)
NEIGHBOUR = 16
NODES = 2  # with workers
# 32 on a node of two CPUs.
SMALL = {
    "workerCpus": "0.25",
    "workerMemory": "256MiB",
    "workerReservedCpus": "0.01",
    "workerReservedMemory": "16MiB",
    "healthDeadline": 600,
}


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """The seconds of a round; `proof` is the part of `up` in which the health probe runs."""

    up: float
    proof: float
    preview: float


def growth(context: Context, rounds: int) -> Iterator[str]:
    """Yield the table of deployments by their number of workers; the first is the unit."""
    rows: dict[str, list[Seconds]] = {}
    for _ in range(rounds):
        for workers in SIZES:
            wait_until_empty(context.lab)
            rows.setdefault(f"{workers} workers", []).append(_round(context, workers))
        wait_until_empty(context.lab)
        with _neighbour(context.lab.docker_host):
            row = rows.setdefault(f"{SIZES[0]} workers beside a cluster of {NEIGHBOUR}", [])
            row.append(_round(context, SIZES[0]))
    yield table(f"Seconds, {context.runner.name}", rows)


def _round(context: Context, workers: int) -> Seconds:
    with _cluster(context, workers) as up:
        proof = context.runner.outputs()["health"]["seconds"]
        start = time.monotonic()
        succeed(context.runner, "preview")
        seconds = Seconds(up=up, proof=proof, preview=time.monotonic() - start)
    print(f"{workers} workers: {seconds}", file=sys.stderr)
    return seconds


@contextmanager
def _cluster(context: Context, workers: int) -> Iterator[float]:
    """Deploy a cluster, yield the seconds of its `up`, and destroy it."""
    placed = {"workers": workers, "workersPerNode": workers // NODES}
    configure(context.config_file, SMALL | placed)
    with done(Deploying(runner=context.runner)) as seconds:
        yield seconds


@contextmanager
def _neighbour(docker_host: str) -> Iterator[None]:
    with prepared("neighbour") as context, closing(docker.DockerClient(docker_host)) as engine:
        shared = engine.networks.create("neighbour-caddy-network", driver="overlay")
        try:
            names = {"clusterName": "neighbour", "caddyNetwork": shared.name}
            configure(context.config_file, names)
            with _cluster(context, NEIGHBOUR):
                yield
        finally:
            shared.remove()


def table(title: str, rows: Mapping[str, Sequence[Seconds]]) -> str:
    """Return the medians by row, each with its ratio over the first row's."""
    medians = {
        name: [statistics.median(values) for values in zip(*map(astuple, rounds), strict=True)]
        for name, rounds in rows.items()
    }
    first = next(iter(medians.values()))
    lines = [f"{title:38}{'up':>15}{'of it, proof':>15}{'preview':>15}"]
    for name, values in medians.items():
        cells = [f"{v:8.1f} ({v / f:.2f})" for v, f in zip(values, first, strict=True)]
        lines.append(f"  {name:36}{''.join(f'{cell:>15}' for cell in cells)}")
    return "\n".join(lines)
