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
import warnings
from collections.abc import Callable
from typing import Any

from distributed import Client, get_worker

SECONDS = 120
LOOK_SECONDS = 1  # one at a scheduler that dies meanwhile would take much longer

Members = set[str]


def name() -> str:
    """Return what tells this worker's process from all others."""
    return f"{get_worker().address} {os.getpid()}"


async def ask() -> Members:
    """Return the names of the scheduler's workers that compute."""
    connect: Any = Client
    async with connect("scheduler:8786", asynchronous=True, timeout="2s") as client:
        known = await client.scheduler.identity(n_workers=-1)
        # A task of a worker that dies meanwhile goes to another one, and is not waited for.
        tasks = [
            client.submit(name, workers=[each], allow_other_workers=True, pure=False)
            for each in known["workers"]
        ]
        return {f"{known['id']} {found}" for found in await client.gather(tasks)}


def members() -> Members:
    """Return what was answered in time; empty without an answer."""
    with contextlib.suppress(Exception):
        return asyncio.run(asyncio.wait_for(ask(), LOOK_SECONDS))
    return set()


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
    # Connections are lost and clients given up: that is the point.
    logging.disable()
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda _: None
    main(int(sys.argv[1]))
