"""A flow of Prefect's with a task on every worker, and what the server says came of it."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import suppress
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen
from uuid import uuid4

from . import UnprovenError
from .deadline import PAUSE_SECONDS
from .members import moved_or, workers_of
from .messages import Prefect, say
from .tasks import Client

NAME = "dask-swarm-proof"
PACKAGES = ("prefect", "prefect_dask")
COMPLETED = "COMPLETED"
ANSWER_SECONDS = 5
SILENT_SECONDS = 30  # of a server that this deployment does not start
RECORD_SECONDS = 15  # for what workers report of their tasks to be in the server's database
LOOK_SECONDS = 1  # between two looks whether scheduler and workers are still there
QUIET = {"PREFECT_LOGGING_LEVEL": "ERROR", "PREFECT_LOGGING_TO_API_ENABLED": "false"}


def prove_flow(
    client: Client, prefect: Prefect, scheduler_address: str, workers: Sequence[str]
) -> dict[str, Any]:
    """Run a flow with a task on every worker; return its state, its tasks and its seconds.

    Raises `UnprovenError` when it does not end well or the server does not know of it,
    `MovedError` when workers came or went meanwhile.
    """
    check_installed()
    # Before Prefect is imported, which is late: that takes seconds of a CPU.
    os.environ.update(variables(prefect))
    say(progress=f"waiting for the Prefect server at {prefect.api_url}")
    wait_for_server(prefect)
    say(progress="running a Prefect flow with a task on every worker")
    begun = time.monotonic()
    name = f"{NAME}-{uuid4().hex[:8]}"
    try:
        state = run_apart(client, name, scheduler_address, workers)
        check_state(client, prefect, workers, state)
        tasks = recorded_tasks(prefect, state.state_details.flow_run_id, len(workers))
    finally:
        with suppress(Exception):  # what stays behind is untidy, no more
            forget(name)
    seconds = round(time.monotonic() - begun, 1)
    return {"state": COMPLETED, "tasks": tasks, "seconds": seconds}


def wait_for_server(prefect: Prefect) -> None:
    """Return when the server says that it is well; the deadline ends the wait.

    Raises `UnprovenError` when a server that was there before is silent for `SILENT_SECONDS`.
    """
    end = time.monotonic() + SILENT_SECONDS
    while found := ailment(prefect.api_url):
        if not prefect.managed and time.monotonic() > end:
            raise UnprovenError(
                f"expected {prefect.api_url}/health to answer 200, found {found} for "
                f"{SILENT_SECONDS} s; correct prefectApiUrl, or let the Swarm's nodes reach it"
            )
        time.sleep(PAUSE_SECONDS)


def ailment(api_url: str) -> str:
    """Return why a server is not well, empty if it is."""
    try:
        with urlopen(f"{api_url}/health", timeout=ANSWER_SECONDS):  # noqa: S310  http or https
            return ""
    except HTTPError as error:
        return f"an answer of {error.code}"
    except (OSError, HTTPException) as error:
        return f"no answer ({getattr(error, 'reason', error)})"


def check_installed() -> None:
    """Raise `UnprovenError` unless this image has what a flow needs."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UnprovenError(
            f"expected the notebook's image to have {', '.join(missing)}, found nothing; take an "
            "image with prefect and prefect-dask, or set prefect to none"
        )


def variables(prefect: Prefect) -> dict[str, str]:
    """Return the environment of work, as far as there is one, with the server's address."""
    file = prefect.variables_file
    given: Mapping[str, str] = json.loads(Path(file).read_text()) if file else {}
    return {**given, "PREFECT_API_URL": prefect.api_url, **QUIET}


def run_apart(client: Client, name: str, scheduler_address: str, workers: Sequence[str]) -> Any:  # noqa: ANN401
    """Return the state that the flow ended in; the deadline ends the wait.

    In a thread: Prefect takes any error inside a flow, the deadline's too, for the flow's own.
    """
    executor = ThreadPoolExecutor(1)
    try:
        running = executor.submit(run_flow, name, scheduler_address, workers)
        while not wait_for([running], LOOK_SECONDS).done:
            workers_of(client)  # raises when the scheduler is gone
        return running.result()
    finally:
        executor.shutdown(wait=False)


def run_flow(name: str, scheduler_address: str, workers: Sequence[str]) -> Any:  # noqa: ANN401
    """Run the flow, whose result is where its tasks ran; return the state that it ended in."""
    import dask
    from prefect import flow, task  # type: ignore[import-not-found]
    from prefect_dask import DaskTaskRunner  # type: ignore[import-not-found]

    # Local functions travel with their code: no worker has this module.
    def where() -> str:
        from distributed import get_worker

        return str(get_worker().address)

    def visit() -> list[str]:
        submit = task(name=NAME)(where).submit
        submitted = []
        for worker in workers:
            # A worker that goes meanwhile must not leave its task waiting for ever.
            with dask.annotate(workers=[worker], allow_other_workers=True):  # type: ignore[attr-defined]
                submitted.append(submit())
        return [each.result() for each in submitted]

    runner = DaskTaskRunner(address=scheduler_address)
    return flow(name=name, task_runner=runner)(visit)(return_state=True)


def check_state(client: Client, prefect: Prefect, workers: Sequence[str], state: Any) -> None:  # noqa: ANN401
    """Raise unless the flow is completed, with a task on every worker."""
    ended = str(state.type.value)
    if ended != COMPLETED:
        found = f"{ended}: {state.message}" if state.message else ended
        complaint = f"expected a flow at {prefect.api_url} to end {COMPLETED}, found {found}"
        raise moved_or(client, workers, complaint)
    idle = sorted(set(workers) - set(state.result()))
    if idle:
        complaint = f"expected a task of a flow on {', '.join(idle)}, found it elsewhere"
        raise moved_or(client, workers, complaint)


def recorded_tasks(prefect: Prefect, flow_run_id: object, wanted: int) -> int:
    """Return how many tasks of a completed run the server has as completed.

    Raises `UnprovenError` when these are not all within `RECORD_SECONDS`: workers report their
    tasks by themselves.
    """
    end = time.monotonic() + RECORD_SECONDS
    while True:
        state, tasks = recorded(flow_run_id)
        if (state, tasks) == (COMPLETED, wanted):
            return tasks
        if time.monotonic() > end:
            raise UnprovenError(
                f"expected {prefect.api_url} to have the flow as {COMPLETED} with {wanted} "
                f"completed tasks, found {state} with {tasks} after {RECORD_SECONDS} s; let the "
                "nodes of the workers reach that address"
            )
        time.sleep(PAUSE_SECONDS)


def recorded(flow_run_id: object) -> tuple[str, int]:
    """Return the state of a run as the server has it, and how many of its tasks are completed."""
    from prefect.client.orchestration import get_client  # type: ignore[import-not-found]

    of_this = {"flow_runs": {"id": {"any_": [str(flow_run_id)]}}}
    completed = {"task_runs": {"state": {"type": {"any_": [COMPLETED]}}}}
    with get_client(sync_client=True) as api:
        run = api.request("GET", f"/flow_runs/{flow_run_id}").json()
        count = api.request("POST", "/task_runs/count", json=of_this | completed).json()
    return str(run["state_type"]), int(count)


def forget(name: str) -> None:
    """Delete a flow with all its runs from the server."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as api:
        flow_id = api.request("GET", f"/flows/name/{name}").json()["id"]
        api.request("DELETE", f"/flows/{flow_id}")
