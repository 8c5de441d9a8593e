"""The proof from its order to its outcome: scheduler, workers, notebook."""

import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from . import UnprovenError
from .bucket import prove_bucket
from .deadline import PAUSE_SECONDS, deadline
from .exchange import exchange
from .flow import prove_flow
from .members import MovedError, check_answers, moved_or, wait_for_members, workers_of
from .messages import Order, say
from .notebook import compute, wait_for_notebook
from .tasks import Client
from .transfers import TRANSFER_BYTES, transfer
from .versions import asked_versions, common_versions, everyone, package_versions
from .worker_tasks import visit


def main(argument: str) -> None:
    """Carry out the order given as JSON and print the outcome."""
    order = Order.parse(argument)
    try:
        with deadline(order.deadline_seconds):
            say(proof=prove(order))
    except UnprovenError as unproven:
        say(failure=str(unproven))


def prove(order: Order) -> dict[str, Any]:
    """Prove everything in the order and return the proof; raises `UnprovenError`.

    Of the proof, `members` are the workers and `routes` the pairs of them that a transfer went
    between, for the launcher to hold against the Swarm's own list of tasks.
    """
    say(progress=f"waiting for the scheduler at {order.scheduler_address}")
    wait_for_port(order.scheduler_address)
    client = connect(order.scheduler_address)
    try:
        proof = prove_cluster(client, order)
    finally:
        client.close(timeout=1)
    if order.notebook:
        say(progress="waiting for the notebook")
        wait_for_notebook(order.notebook)
        if order.notebook.cell:
            say(progress="running a cell in the notebook")
            proof["cell"] = compute(order.notebook, order.expected.workers)
    return proof


def wait_for_port(address: str) -> None:
    """Return when `tcp://host:port` accepts a connection; the deadline ends the wait."""
    url = urlsplit(address)
    while True:
        with suppress(OSError), socket.create_connection((url.hostname, url.port), timeout=2):
            return
        time.sleep(PAUSE_SECONDS)


def connect(address: str) -> Client:
    """Return a client of the scheduler; the deadline ends the attempts."""
    # Only now: the import takes CPU that a scheduler and workers in their own start need more.
    from asyncio import TimeoutError as AsyncTimeoutError  # the built-in one only since 3.11

    import distributed

    while True:
        with suppress(OSError, AsyncTimeoutError):
            return distributed.Client(  # type: ignore[no-untyped-call]
                address, timeout=5, set_as_default=False, name="dask-health"
            )
        time.sleep(PAUSE_SECONDS)


def prove_cluster(client: Client, order: Order) -> dict[str, Any]:
    """Prove scheduler and workers, again from the start whenever workers come or go."""
    while True:
        members = wait_for_members(client, order.expected)
        try:
            return prove_members(client, members, order)
        except UnprovenError:
            raise
        except Exception as error:
            if client.status != "running":
                raise  # the scheduler is gone; the Swarm starts this program anew
            # distributed has many ways to say that a worker is gone.
            reason = moved_or(client, members, f"the proof broke off: {error!r}")
            if not isinstance(reason, MovedError):
                raise reason from error
        say(progress="workers came or went during the proof; starting again")


def prove_members(client: Client, members: Mapping[str, Any], order: Order) -> dict[str, Any]:
    """Prove that these workers work: versions, packages, tasks, transfers, then what they are for.

    Raises `MovedError` when they are not the same any more.
    """
    say(progress=f"{len(members)} workers; comparing versions")
    found = client.get_versions(packages=asked_versions(order.packages))
    check_answers(client, members, found["workers"])
    owners = everyone(found)
    versions = common_versions(owners)
    installed = package_versions(owners, order.packages)
    say(progress="running a task on every worker")
    hosts = visit(client, sorted(members), order.packages)
    say(progress="moving data between workers")
    routes = transfer(client, hosts)
    used = use(client, order, hosts) if order.use else {}
    if workers_of(client).keys() != members.keys():
        raise MovedError
    return {
        "workers": len(members),
        "threads": sum(member["nthreads"] for member in members.values()),
        "memory_bytes": sum(member["memory_limit"] for member in members.values()),
        "versions": versions,
        "packages": installed,
        "tasks": len(hosts),
        "transfer_bytes": TRANSFER_BYTES,
        "members": sorted(members),
        "routes": routes,
        **used,
    }


def use(client: Client, order: Order, hosts: Mapping[str, str]) -> dict[str, Any]:
    """Do with the workers what they are for, and return what was found; `hosts` is worker to host.

    Raises `UnprovenError`, or `MovedError` when other workers are there meanwhile.
    """
    workers, found = sorted(hosts), {}
    say(progress="sending arrays and frames there and back")
    exchange(client, workers)
    if order.object_store:
        found["object_store"] = prove_bucket(client, hosts, order.object_store)
    if order.prefect:
        found["prefect"] = prove_flow(client, order.prefect, order.scheduler_address, workers)
    return found
