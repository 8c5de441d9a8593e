"""Ten minutes of steady work: how much memory the scheduler and the workers gain.

Clients come and go, and each sends thousands of small tasks and small arrays.
"""

import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import docker

from bench.context import Container, Context, container_of, run_in_notebook
from bench.worker import mib, workers_of

SECONDS = 600
SAMPLE_SECONDS = 20
EDGE = 4  # samples that are compared at the beginning and at the end
MAX_GAIN = 32  # MiB of the scheduler in the second half
# Prints the number of tasks.
WORK = """
import sys, time
import dask.array as da
from distributed import Client

end, tasks = time.monotonic() + float(sys.argv[1]), 0
while time.monotonic() < end:
    with Client("scheduler:8786", timeout="30s") as client:
        change = time.monotonic() + 30
        while time.monotonic() < min(change, end):
            client.gather(client.map(abs, range(200), pure=False))
            da.random.default_rng(1).random((2000, 2000), chunks=500).sum().compute()
            tasks += 200 + 2 * 16
            time.sleep(0.2)
print(tasks)
"""


def steady(context: Context, rounds: int) -> Iterator[str]:  # noqa: ARG001  the time is fixed
    """Yield the table of memory; raises `RuntimeError` if the scheduler gains too much."""
    host, limit = context.lab.docker_host, SECONDS + 60
    with (
        context.deployed(context.stacks[-1]),
        closing(docker.DockerClient(host)) as engine,
        ThreadPoolExecutor(1) as pool,
    ):
        work = pool.submit(run_in_notebook, host, "steady work", WORK, limit, str(SECONDS))
        scheduler, workers = container_of(engine, "dask_scheduler"), workers_of(context.lab)
        samples = []
        while not work.done():
            time.sleep(SAMPLE_SECONDS)
            samples.append(_sample(scheduler, workers))
        tasks = int(work.result())
    yield table(tasks, {name: [sample[name] for sample in samples] for name in samples[0]})


def _sample(scheduler: Container, workers: Sequence[Container]) -> dict[str, float]:
    sample = {"scheduler": mib(scheduler), "largest worker": max(map(mib, workers))}
    print(", ".join(f"{name} {value:.0f} MiB" for name, value in sample.items()), file=sys.stderr)
    return sample


def table(tasks: int, memory: Mapping[str, Sequence[float]]) -> str:
    """Return the MiB at the beginning and at the end of the second half, by program.

    In the first half Dask fills its logs of transitions and events, which have a limited length.
    Raises `RuntimeError` if the scheduler gains more than `MAX_GAIN`.
    """
    title = f"MiB, second half of {SECONDS // 60} minutes and {tasks:,} tasks"
    lines = [f"{title:50}{'first':>8}{'last':>8}{'gain':>8}"]
    gains = {}
    for name, values in memory.items():
        measured = values[len(values) // 2 :]
        first, last = statistics.median(measured[:EDGE]), statistics.median(measured[-EDGE:])
        gains[name] = last - first
        lines.append(f"  {name:48}{first:8.1f}{last:8.1f}{gains[name]:+8.1f}")
    text = "\n".join(lines)
    if gains["scheduler"] > MAX_GAIN:
        raise RuntimeError(f"the scheduler gains more than {MAX_GAIN} MiB\n{text}")
    return text
