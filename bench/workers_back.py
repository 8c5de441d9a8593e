"""Waits until a fault has changed a cluster's members and all workers compute again.

Run as `python -c <this file> <workers>` in the notebook's container. It prints a line when it
knows the cluster as it is, and another, with the seconds since 1970, when the cluster is back.
"""

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from distributed import Client

SECONDS = 120
LOOK_SECONDS = 3  # a worker that is gone may be asked, and its task waited for, much longer

Members = dict[str, int]


async def ask() -> Members:
    """Return the process of each worker that computes by its address."""
    connect: Any = Client
    async with connect("scheduler:8786", asynchronous=True, timeout="2s") as client:
        found: Members = await client.run(os.getpid)
        await client.gather([client.submit(abs, -1, workers=[a], pure=False) for a in found])
        identity = client.scheduler_info(n_workers=0)["id"]
        return {f"{identity} {address}": process for address, process in found.items()}


def members() -> Members:
    """Return what was answered in time; empty without an answer."""
    with contextlib.suppress(Exception):
        return asyncio.run(asyncio.wait_for(ask(), LOOK_SECONDS))
    return {}


def wait(what: str, met: Callable[[Members], bool]) -> Members:
    """Return the first members that meet a condition."""
    end = time.monotonic() + SECONDS
    while not met(found := members()):
        if time.monotonic() > end:
            raise SystemExit(f"{what}: not within {SECONDS} s; there are {len(found)} workers")
        time.sleep(0.1)
    return found


def main(workers: int) -> None:
    """Wait for the change."""
    before = wait(f"{workers} workers before the fault", lambda found: len(found) == workers)
    print("known", flush=True)
    wait(
        f"{workers} workers after the fault, not the same as before",
        lambda found: len(found) == workers and found != before,
    )
    print(time.time(), flush=True)


if __name__ == "__main__":
    logging.disable()  # of connections that are lost, which is the point
    main(int(sys.argv[1]))
