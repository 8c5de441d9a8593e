"""A computation that runs while the cluster changes, and a report of its losses.

Sent as text: `python -c <this file> <workers> <blocks> <tasks>` in the notebook's container.
It makes the file `COMPUTING` when its data and the results of its first tasks are on `workers`
workers. It computes until the file `CHANGED` exists, then prints one JSON object.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import distributed

Client = Any  # distributed is typed in part only
Future = Any

BLOCK_BYTES = 2**20
TASK_SECONDS = 0.5
COMPUTING, CHANGED = Path("/tmp/computing"), Path("/tmp/changed")  # noqa: S108  in a container


def work(number: int, topic: str) -> int:
    """Take a while, and log an event for the run."""
    time.sleep(TASK_SECONDS)
    distributed.get_worker().log_event(topic, number)
    return number


def compute(client: Client, workers: int, blocks: int, tasks: int) -> dict[str, Any]:
    """Return the lost and moved data and the repeated tasks between the two files."""
    topic = f"runs-{time.time()}"
    client.wait_for_workers(workers, timeout=60)
    data = client.scatter([os.urandom(BLOCK_BYTES) for _ in range(blocks)], hash=False)
    before = client.who_has(data)
    futures = client.map(work, range(tasks), topic=topic, pure=False)
    client.gather(futures)
    keep_busy(client, futures, 2 * workers, topic)
    results = client.gather(futures)
    after = client.who_has([block for block in data if not block.cancelled()])
    kept = [key for key, owners in after.items() if owners]
    moved = [key for key in kept if not {*before[key]} & {*after[key]}]
    return {
        "workers": len({worker for owners in before.values() for worker in owners}),
        "blocks": blocks,
        "lost_blocks": blocks - len(kept),
        "moved_bytes": len(moved) * BLOCK_BYTES,
        "tasks": len(futures),
        "right": results == list(range(len(futures))),
        "repeated_tasks": len(client.get_events(topic)) - len(futures),
    }


def keep_busy(client: Client, futures: list[Future], at_once: int, topic: str) -> None:
    """Keep `at_once` tasks running until the cluster has changed."""
    while not CHANGED.exists():
        if sum(not future.done() for future in futures) < at_once:
            futures.append(client.submit(work, len(futures), topic=topic, pure=False))
        else:
            COMPUTING.touch()
            time.sleep(0.1)


if __name__ == "__main__":
    for file in (COMPUTING, CHANGED):
        file.unlink(missing_ok=True)
    connect: Any = distributed.Client
    try:
        with connect("scheduler:8786", timeout="60s") as cluster:
            print(json.dumps(compute(cluster, *map(int, sys.argv[1:]))))
    finally:
        COMPUTING.touch()  # after a failure the waiting program must continue too
