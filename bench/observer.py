"""Prints which workers compute, again and again.

Run as `python -c <this file>` in the notebook's container. A line is a JSON object: `at`, in
seconds since 1970, and `members`, the names of the workers. It ends with its standard input.
"""

import asyncio
import contextlib
import json
import logging
import os
import sys
import time
import warnings
from threading import Thread
from typing import Any

from distributed import Client, get_worker

ASK_SECONDS = 2  # a scheduler that dies meanwhile would answer much later

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
            client.submit(
                name, workers=[address], allow_other_workers=True, pure=False, priority=1
            )
            for address in scheduler["workers"]
        ]
        return {f"{scheduler['id']} {worker}" for worker in await client.gather(tasks)}


def members() -> Members:
    """Return the members, none without an answer in time."""
    with contextlib.suppress(Exception):
        return asyncio.run(asyncio.wait_for(ask(), ASK_SECONDS))
    return set()


def end_with_input() -> None:
    """End this program when the other program, which reads the lines, is gone."""
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """Print the members until this program ends."""
    while True:
        current = members()
        print(json.dumps({"at": time.time(), "members": sorted(current)}), flush=True)
        time.sleep(0.1)


if __name__ == "__main__":
    # Lost connections and abandoned clients are expected.
    logging.disable()
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda _: None
    Thread(target=end_with_input, daemon=True).start()
    main()
