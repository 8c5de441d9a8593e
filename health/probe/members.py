"""The workers that the scheduler knows: as many as expected, as large, and still the same."""

import time
from collections.abc import Collection, Mapping
from typing import Any

from . import UnprovenError
from .deadline import PAUSE_SECONDS
from .messages import Expected, say
from .tasks import Client

SETTLING_SECONDS = 70  # workers that are being replaced have a grace period of 60 s to leave


class MovedError(Exception):
    """Workers came or went during the proof, so it says nothing about those there now."""


def wait_for_members(client: Client, expected: Expected) -> dict[str, Any]:
    """Return the expected number of workers, address to description; the deadline ends the wait.

    Raises `UnprovenError` when there are too many for `SETTLING_SECONDS`, or their size is wrong.
    """
    seen: list[str] | None = None
    settled = time.monotonic() + SETTLING_SECONDS
    while True:
        members = workers_of(client)
        if seen != sorted(members):
            seen = sorted(members)
            say(progress=f"{len(seen)} of {expected.workers} workers", members=seen)
        if len(members) == expected.workers:
            check_size(members, expected)
            return members
        if len(members) < expected.workers:
            settled = time.monotonic() + SETTLING_SECONDS
        elif time.monotonic() > settled:
            raise UnprovenError(too_many(members, expected))
        time.sleep(PAUSE_SECONDS)


def workers_of(client: Client) -> dict[str, Any]:
    """Return the workers that the scheduler knows, address to description."""
    workers: dict[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    return workers


def too_many(members: Mapping[str, Any], expected: Expected) -> str:
    """Return the complaint about workers that nobody declared."""
    return (
        f"expected {expected.workers} workers, found {len(members)} for {SETTLING_SECONDS} s: "
        f"{', '.join(sorted(members))}; stop those that are not part of this deployment"
    )


def check_size(members: Mapping[str, Any], expected: Expected) -> None:
    """Raise `UnprovenError` unless threads and memory are exactly as expected."""
    for key, spell, wanted in (
        ("nthreads", "{} threads".format, expected.threads),
        ("memory_limit", gibibytes, expected.memory_bytes),
    ):
        each = {address: member[key] or 0 for address, member in members.items()}
        total = sum(each.values())
        if total != wanted:
            listed = ", ".join(f"{address} has {spell(each[address])}" for address in sorted(each))
            raise UnprovenError(f"expected {spell(wanted)}, found {spell(total)}: {listed}")


def gibibytes(size: int) -> str:
    """Return a number of bytes as Dask shows it; one that is not even, to the byte."""
    exact = f" ({size} bytes)" if size % 2**20 else ""
    return f"{size / 2**30:.2f} GiB of memory{exact}"


def check_answers(client: Client, members: Mapping[str, Any], answers: Mapping[str, Any]) -> None:
    """Raise unless every worker has answered the scheduler."""
    silent = sorted(members.keys() - answers.keys())
    if silent:
        raise moved_or(client, members, f"no answer from {', '.join(silent)}")


def moved_or(client: Client, members: Collection[str], complaint: str) -> Exception:
    """Return the error to raise: whether other workers are there now, or else the complaint."""
    return MovedError() if workers_of(client).keys() != set(members) else UnprovenError(complaint)
