"""Waits until a fault has changed a cluster's members and all workers compute again.

Run as `python -c <this file> <workers>` in the notebook's container. It prints a line when it
knows the cluster as it is, and another, with the seconds since 1970, when the cluster is back.
"""

import contextlib
import os
import sys
import time
from typing import Any

from distributed import Client

SECONDS = 120


def members() -> dict[str, int]:
    """Return the process of each worker that computes by its address; empty without an answer."""
    connect: Any = Client
    with contextlib.suppress(Exception), connect("scheduler:8786", timeout="2s") as client:
        found: dict[str, int] = client.run(os.getpid, on_error="raise")
        tasks = [client.submit(abs, -1, workers=[each], pure=False) for each in found]
        for task in tasks:
            task.result(timeout=2)  # a task of a worker that is gone never runs
        identity = client.scheduler_info(n_workers=0)["id"]
        return {f"{identity} {address}": process for address, process in found.items()}
    return {}


def main(workers: int) -> None:
    """Wait for the change."""
    end = time.monotonic() + SECONDS
    while len(before := members()) != workers:
        assert time.monotonic() < end, f"{len(before)} workers"  # noqa: S101
        time.sleep(0.1)
    print("known", flush=True)
    while len(after := members()) != workers or after == before:
        assert time.monotonic() < end, f"{len(after)} workers"  # noqa: S101
        time.sleep(0.1)
    print(time.time(), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
