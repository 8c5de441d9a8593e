"""The steps of the proof: scheduler, workers, notebook."""

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from . import UnprovenError
from .bucket import prove_bucket
from .busy import BusyError
from .deadline import PAUSE_SECONDS, deadline
from .exchange import exchange
from .flow import prove_flow
from .members import MovedError, WorkerError, check_answers, moved, wait_for_members
from .messages import ProbeRequest, say
from .notebook import compute, wait_for_notebook
from .ports import prove_closed, prove_keyed, wait_for_port
from .tasks import Client
from .tls import prove_tls, use_certificate, wait_until_admitted
from .transfers import TRANSFER_BYTES, transfer
from .versions import by_owner, check_holes, common_versions, package_versions, queried_packages
from .worker_tasks import check_busy_workers, run_tasks


def main(argument: str) -> None:
    """Run the request in JSON and print the outcome."""
    request = ProbeRequest.parse(argument)
    try:
        with deadline(request.deadline_seconds):
            say(proof=prove(request))
    except UnprovenError as unproven:
        say(failure=str(unproven))


def prove(request: ProbeRequest) -> dict[str, Any]:
    """Prove everything in the request and return the proof; raises `UnprovenError`.

    In the proof `members` are the workers, and `routes` the pairs of workers with a transfer. The
    launcher compares them with Swarm's list of tasks. `busy`, if any, are the workers without a
    task of the proof, and the tasks of users on all of their threads.
    """
    say(progress=f"waiting for the scheduler at {request.scheduler_address}")
    wait_for_port(request.scheduler_address)
    if request.tls:
        use_certificate(request.tls)
        wait_until_admitted(request.scheduler_address)
    client = connect(request.scheduler_address)
    try:
        proof = prove_cluster(client, request)
    finally:
        client.close(timeout=1)
    if request.notebook:
        say(progress="waiting for the notebook")
        wait_for_notebook(request.notebook)
        if request.notebook.cell:
            say(progress="running a cell in the notebook")
            proof["cell"] = compute(request.notebook, proof["workers"])
    prove_closed(request.closed_ports)
    if request.closed_urls:
        say(progress="asking Prefect on Caddy's network without Caddy's key")
        prove_keyed(request.closed_urls)
    return proof


def connect(address: str) -> Client:
    """Return a client of the scheduler; tries again until the deadline."""
    # Imported late: scheduler and workers need the CPU for their own start.
    from asyncio import TimeoutError as AsyncTimeoutError  # the built-in one only since 3.11

    import distributed

    while True:
        with suppress(OSError, AsyncTimeoutError):
            return distributed.Client(  # type: ignore[no-untyped-call]
                address, timeout=5, set_as_default=False, name="dask-health"
            )
        time.sleep(PAUSE_SECONDS)


def prove_cluster(client: Client, request: ProbeRequest) -> dict[str, Any]:
    """Prove scheduler and workers; start again when workers come or go, or are busy."""
    busy: dict[str, str] = {}
    while True:
        members = wait_for_members(client, request.expected)
        busy = {worker: tasks for worker, tasks in busy.items() if worker in members}
        try:
            return prove_members(client, members, request, busy)
        except BusyError as found:
            busy |= found.workers
            listed = ", ".join(f"{worker} runs {tasks}" for worker, tasks in busy.items())
            say(progress=f"starting again without tasks on busy workers: {listed}")
            continue
        except MovedError:
            pass
        except WorkerError:
            if not moved(client, members):
                raise
        except UnprovenError:
            raise
        except Exception as error:
            if client.status != "running":
                raise  # the scheduler is gone; Swarm starts this program again
            # distributed raises many kinds of errors when a worker is gone.
            if not moved(client, members):
                raise UnprovenError(f"the proof broke off: {error!r}") from error
        say(progress="workers came or went during the proof; starting again")


def prove_members(
    client: Client, members: Mapping[str, Any], request: ProbeRequest, busy: Mapping[str, str]
) -> dict[str, Any]:
    """Prove versions, packages, tasks and transfers of these workers, then what users do.

    The `busy` workers run no task. Raises `MovedError` if workers came or went meanwhile.
    """
    say(progress=f"{len(members)} workers; comparing versions")
    reported = client.get_versions(packages=queried_packages(request.packages))
    check_answers(members, reported["workers"])
    installations = by_owner(reported)
    versions = common_versions(installations)
    check_holes(installations)
    packages = package_versions(installations, request.packages)
    check_busy_workers(client, busy, request.packages)
    free = sorted(members.keys() - busy.keys())
    say(progress=f"running a task on every worker{' that is not busy' if busy else ''}")
    engines = run_tasks(client, free, request.packages)
    say(progress="moving data between workers")
    routes = transfer(client, engines)
    used = prove_use(client, request, engines) if request.use and engines else {}
    if request.tls:
        say(progress="connecting with certificates that must be refused")
        used["certificates"] = prove_tls(request.scheduler_address, sorted(members), request.tls)
    if moved(client, members):
        raise MovedError
    return {
        "workers": len(members),
        "threads": sum(member["nthreads"] for member in members.values()),
        "memory_bytes": sum(member["memory_limit"] for member in members.values()),
        "versions": versions,
        "packages": packages,
        "tasks": len(engines),
        "transfer_bytes": TRANSFER_BYTES,
        "members": sorted(members),
        "routes": routes,
        **({"busy": dict(busy)} if busy else {}),
        **used,
    }


def prove_use(client: Client, request: ProbeRequest, engines: Mapping[str, str]) -> dict[str, Any]:
    """Prove what users do with the workers; `engines` is worker to engine.

    Raises `UnprovenError`, or `BusyError` if tasks of users keep its tasks waiting.
    """
    workers, proof = sorted(engines), {}
    say(progress="sending arrays and frames to every worker and back")
    exchange(client, workers)
    if request.object_store:
        proof["object_store"] = prove_bucket(client, engines, request.object_store)
    if request.prefect:
        proof["prefect"] = prove_flow(client, request.prefect, request.scheduler_address, workers)
    return proof
