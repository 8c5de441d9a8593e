"""Fills a worker's memory until the worker pauses, then frees the memory again.

Sent as text: `python -c <this file> <address>` in the notebook's container, where a part of the
worker's address is enough. Its disk is full, so that nothing is spilled.
"""

import os
import sys
import time
from typing import Any

import distributed

BLOCK_BYTES = 2**25
SHARE = 0.85  # of the worker's memory; Dask pauses at 0.80
SECONDS = 90


def fill(client: Any, host: str) -> None:  # noqa: ANN401  distributed is typed in part only
    """Raise `TimeoutError` if the worker does not pause."""
    workers: dict[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    ((address, worker),) = [item for item in workers.items() if host in item[0]]
    blocks = range(int(SHARE * worker["memory_limit"] / BLOCK_BYTES))
    ballast = client.map(lambda _: os.urandom(BLOCK_BYTES), blocks, workers=address, pure=False)
    deadline = time.monotonic() + SECONDS
    while client.scheduler_info(n_workers=-1)["workers"][address]["status"] != "paused":
        if time.monotonic() > deadline:
            raise TimeoutError(f"{address} did not pause within {SECONDS} s: {ballast}")
        time.sleep(0.2)


if __name__ == "__main__":
    connect: Any = distributed.Client
    with connect("scheduler:8786", timeout="60s") as cluster:
        fill(cluster, sys.argv[1])
