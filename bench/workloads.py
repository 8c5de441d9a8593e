"""Eight kinds of work on a cluster, each timed; run in the notebook's container of either stack.

Run as `python -c <this file>`; it prints the seconds by name as one JSON object.
Sizes are proportional to the cluster's memory and the same for both stacks.
"""

# mypy: disallow-untyped-calls=false

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import dask
import dask.array as da
import dask.dataframe as dd
import pandas as pd
from distributed import Client, wait

WORKERS = 4
MIB = 2**20
GIB = 2**30
CHUNK = 32 * MIB


def round_trips(client: Any) -> None:  # noqa: ANN401  distributed is typed in part only
    """Wait for a hundred trivial tasks, one after the other."""
    for number in range(100):
        client.submit(abs, number, pure=False).result()


def many_tasks(client: Any) -> None:  # noqa: ANN401
    """Run ten thousand trivial tasks at once."""
    client.gather(client.map(abs, range(10_000), pure=False))


def fan_out(client: Any) -> None:  # noqa: ANN401
    """Have two hundred tasks on all workers read one MiB."""
    block = client.scatter(b"x" * MIB, hash=False)
    client.gather([client.submit(len, block, pure=False) for _ in range(200)])


def large_sum(client: Any) -> None:  # noqa: ANN401, ARG001  the default client computes
    """Sum twice the cluster's memory."""
    random(2 * WORKERS * GIB).sum().compute()


def rechunk_by_p2p(client: Any) -> None:  # noqa: ANN401, ARG001
    """Turn rows into columns through the workers' disks."""
    rechunk("p2p")


def rechunk_by_tasks(client: Any) -> None:  # noqa: ANN401, ARG001
    """Turn rows into columns by tasks."""
    rechunk("tasks")


def shuffle(client: Any) -> None:  # noqa: ANN401, ARG001
    """Sort two million rows by another index."""
    rows = pd.DataFrame({"key": range(2_000_000), "value": 1.0})
    frame = dd.from_pandas(rows.sample(frac=1, random_state=1), npartitions=20, sort=False)
    assert frame.shuffle("key").value.sum().compute() == 2_000_000  # noqa: S101


def kept(client: Any) -> None:  # noqa: ANN401, ARG001
    """Persist 1.3 times the cluster's memory, and read it again."""
    data = random(int(1.3 * WORKERS * GIB)).persist()
    wait(data)
    data.sum().compute()


def random(size: int) -> Any:  # noqa: ANN401
    """Return `size` bytes of random numbers in chunks of `CHUNK` bytes."""
    return da.random.default_rng(1).random(size // 8, chunks=CHUNK // 8)


def rechunk(method: str) -> None:
    """Turn rows of 256 MiB into columns."""
    rows = da.random.default_rng(1).random((8192, 4096), chunks=(512, 4096))
    with dask.config.set({"array.rechunk.method": method}):
        rows.rechunk((8192, 256)).sum().compute()


WORKLOADS: dict[str, Callable[[Any], None]] = {
    "100 round trips": round_trips,
    "10,000 tasks": many_tasks,
    "1 MiB to 200 tasks": fan_out,
    "the sum of twice the memory": large_sum,
    "a rechunk by p2p": rechunk_by_p2p,
    "a rechunk by tasks": rechunk_by_tasks,
    "a shuffle": shuffle,
    "1.3 times the memory, kept": kept,
}


def measure() -> dict[str, float]:
    """Return the seconds of each workload, after an untimed warm-up."""
    connect: Any = Client
    seconds = {}
    with connect("scheduler:8786", timeout="120s") as client:
        client.wait_for_workers(WORKERS, timeout=120)
        many_tasks(client)
        for name, work in WORKLOADS.items():
            start = time.perf_counter()
            work(client)
            seconds[name] = time.perf_counter() - start
            print(f"{name}: {seconds[name]:.1f} s", file=sys.stderr)
    return seconds


if __name__ == "__main__":
    print(json.dumps(measure()))
