"""The workers that the scheduler knows: their number, their size, and whether they change."""

import time
from collections.abc import Collection, Mapping
from typing import Any

from . import UnprovenError
from .deadline import PAUSE_SECONDS
from .messages import Expected, say
from .tasks import Client

SETTLING_SECONDS = 70  # a replaced worker has a grace period of 60 s to leave


class MovedError(Exception):
    """Workers came or went during the proof, so it must start again."""


class WorkerError(UnprovenError):
    """A worker did not do its part; this is no failure if workers came or went meanwhile."""


def wait_for_members(client: Client, expected: Expected) -> dict[str, Any]:
    """Wait for the expected number of workers; return worker address to description.

    Raises `UnprovenError` if there are too many for `SETTLING_SECONDS`, or their size is wrong.
    """
    seen: list[str] | None = None
    # With more workers than that, some may be gone: the scheduler takes a while to notice.
    least = expected.workers - expected.missing
    settled = time.monotonic() + SETTLING_SECONDS
    while True:
        members = workers_of(client)
        if seen != sorted(members):
            seen = sorted(members)
            say(progress=f"{len(seen)} of {expected.workers} workers", members=seen)
        if len(members) < least:
            settled = time.monotonic() + SETTLING_SECONDS
        elif len(members) == least or time.monotonic() > settled:
            check_size(members, expected)
            return members
        time.sleep(PAUSE_SECONDS)


def workers_of(client: Client) -> dict[str, Any]:
    """Return worker address to description, for the workers that the scheduler knows."""
    workers: dict[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    return workers


def too_many(members: Mapping[str, Any], expected: Expected) -> str:
    """Return the problem of too many workers."""
    return (
        f"expected {expected.workers} workers, found {len(members)} for {SETTLING_SECONDS} s: "
        f"{', '.join(sorted(members))}; stop those that are not part of this deployment"
    )


def check_size(members: Mapping[str, Any], expected: Expected) -> None:
    """Raise `UnprovenError` unless number, threads and memory are exactly as expected."""
    if len(members) > expected.workers:
        raise UnprovenError(too_many(members, expected))
    for key, spell, of_all in (
        ("nthreads", "{} threads".format, expected.threads),
        ("memory_limit", gibibytes, expected.memory_bytes),
    ):
        sizes = {address: member[key] or 0 for address, member in members.items()}
        total = sum(sizes.values())
        wanted = of_all * len(members) // expected.workers
        if total != wanted:
            listed = ", ".join(
                f"{address} has {spell(size)}" for address, size in sorted(sizes.items())
            )
            raise UnprovenError(f"expected {spell(wanted)}, found {spell(total)}: {listed}")


def gibibytes(size: int) -> str:
    """Return bytes as Dask shows them; with the exact number if it is no multiple of 1 MiB."""
    exact = f" ({size} bytes)" if size % 2**20 else ""
    return f"{size / 2**30:.2f} GiB of memory{exact}"


def check_answers(members: Collection[str], answers: Collection[str]) -> None:
    """Raise `WorkerError` unless every worker has answered."""
    silent = sorted(set(members) - set(answers))
    if silent:
        raise WorkerError(f"no answer from {', '.join(silent)}")


def moved(client: Client, members: Collection[str]) -> bool:
    """Return whether workers came or went."""
    return workers_of(client).keys() != set(members)
