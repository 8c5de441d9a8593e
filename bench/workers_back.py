"""Waits until a fault has changed a cluster's members and all workers compute again.

Run as `python -c <this file> <workers>` in the notebook's container. It prints a line when it
knows the cluster before the fault, and the seconds since 1970 when the cluster is back.
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
ASK_SECONDS = 1  # a scheduler that dies meanwhile would answer much later

Members = set[str]


def name() -> str:
    """Return a unique name of this worker's process."""
    return f"{get_worker().address} {os.getpid()}"


async def ask() -> Members:
    """Return the names of the workers that compute."""
    connect: Any = Client
    async with connect("scheduler:8786", asynchronous=True, timeout="2s") as client:
        scheduler = await client.scheduler.identity(n_workers=-1)
        # If a worker dies meanwhile, its task runs on another worker instead of waiting.
        tasks = [
            client.submit(name, workers=[address], allow_other_workers=True, pure=False)
            for address in scheduler["workers"]
        ]
        return {f"{scheduler['id']} {worker}" for worker in await client.gather(tasks)}


def members() -> Members:
    """Return the members, none without an answer in time."""
    with contextlib.suppress(Exception):
        return asyncio.run(asyncio.wait_for(ask(), ASK_SECONDS))
    return set()


def wait(what: str, condition: Callable[[Members], bool]) -> Members:
    """Return the first members that meet a condition."""
    end = time.monotonic() + SECONDS
    while not condition(current := members()):
        if time.monotonic() > end:
            raise SystemExit(f"{what}: not within {SECONDS} s; there are {len(current)} workers")
        time.sleep(0.1)
    return current


def main(workers: int) -> None:
    """Wait for the fault and for the new members."""
    before = wait(f"{workers} workers before the fault", lambda now: len(now) == workers)
    print("known", flush=True)
    wait(
        f"{workers} workers after the fault, not the same as before",
        lambda now: len(now) == workers and now != before,
    )
    print(time.time(), flush=True)


if __name__ == "__main__":
    # Lost connections and abandoned clients are expected.
    logging.disable()
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda _: None
    main(int(sys.argv[1]))
