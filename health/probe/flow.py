"""A Prefect flow with a task on every worker, and its record on the server."""

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
from .busy import check_busy
from .deadline import PAUSE_SECONDS
from .members import WorkerError, workers_of
from .messages import Prefect, say
from .tasks import BUSY_SECONDS, PRIORITY, Client

NAME = "dask-swarm-proof"
PACKAGES = ("prefect", "prefect_dask")
COMPLETED = "COMPLETED"
ANSWER_SECONDS = 5
SILENT_SECONDS = 30  # for a server outside this deployment
# Until the server's database has the workers' reports of their tasks. If the server was replaced
# within half a minute of a flow, the workers first report that flow's tasks once more.
RECORD_SECONDS = 60
CHECK_SECONDS = 1  # between two checks of the scheduler
QUIET = {"PREFECT_LOGGING_LEVEL": "ERROR", "PREFECT_LOGGING_TO_API_ENABLED": "false"}


def prove_flow(
    client: Client, prefect: Prefect, scheduler_address: str, workers: Sequence[str]
) -> dict[str, Any]:
    """Run a flow with a task on every worker; return its state, its tasks and its seconds.

    Raises `UnprovenError` if the flow fails or the server has no record of it, `BusyError` if
    tasks of users keep its tasks waiting.
    """
    check_installed()
    # Before the import of Prefect, which is late because it takes seconds of CPU time.
    os.environ.update(variables(prefect))
    say(progress=f"waiting for the Prefect server at {prefect.api_url}")
    wait_for_server(prefect)
    say(progress="running a Prefect flow with a task on every worker")
    start = time.monotonic()
    name = f"{NAME}-{uuid4().hex[:8]}"
    try:
        state = run_in_thread(client, name, scheduler_address, workers)
        check_state(client, prefect, workers, state)
        tasks = recorded_tasks(prefect, state.state_details.flow_run_id, len(workers))
    finally:
        with suppress(Exception):  # a flow that stays on the server does no harm
            delete_flow(name)
    seconds = round(time.monotonic() - start, 1)
    return {"state": COMPLETED, "tasks": tasks, "seconds": seconds}


def wait_for_server(prefect: Prefect) -> None:
    """Wait until the server is healthy.

    Raises `UnprovenError` if a server outside this deployment is silent for `SILENT_SECONDS`.
    """
    end = time.monotonic() + SILENT_SECONDS
    while found := health_problem(prefect.api_url):
        if not prefect.managed and time.monotonic() > end:
            raise UnprovenError(
                f"expected {prefect.api_url}/health to answer 200, found {found} for "
                f"{SILENT_SECONDS} s; correct prefectApiUrl, or let the Swarm's nodes reach it"
            )
        time.sleep(PAUSE_SECONDS)


def health_problem(api_url: str) -> str:
    """Return why a server is not healthy, empty for a healthy server."""
    try:
        with urlopen(f"{api_url}/health", timeout=ANSWER_SECONDS):  # noqa: S310  http or https
            return ""
    except HTTPError as error:
        return f"an answer of {error.code}"
    except (OSError, HTTPException) as error:
        return f"no answer ({getattr(error, 'reason', error)})"


def check_installed() -> None:
    """Raise `UnprovenError` unless this image has Prefect's packages."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UnprovenError(
            f"expected the notebook's image to have {', '.join(missing)}, found nothing; use an "
            "image with prefect and prefect-dask, or set prefect to none"
        )


def variables(prefect: Prefect) -> dict[str, str]:
    """Return the environment variables of the deployment, with the server's address."""
    file = prefect.variables_file
    configured: Mapping[str, str] = json.loads(Path(file).read_text()) if file else {}
    return {**configured, "PREFECT_API_URL": prefect.api_url, **QUIET}


def run_in_thread(
    client: Client, name: str, scheduler_address: str, workers: Sequence[str]
) -> Any:  # noqa: ANN401
    """Run the flow in a thread and return its last state.

    Inside a flow Prefect catches every error, even the deadline's.
    """
    executor = ThreadPoolExecutor(1)
    try:
        running = executor.submit(run_flow, name, scheduler_address, workers)
        ask_at = time.monotonic() + BUSY_SECONDS
        while not wait_for([running], CHECK_SECONDS).done:
            workers_of(client)  # raises when the scheduler is gone
            if time.monotonic() > ask_at:
                check_busy(client, workers, BUSY_SECONDS)
                ask_at += BUSY_SECONDS
        return running.result()
    finally:
        executor.shutdown(wait=False)


def run_flow(name: str, scheduler_address: str, workers: Sequence[str]) -> Any:  # noqa: ANN401
    """Run the flow and return its last state; its result is the workers of its tasks."""
    import dask
    from prefect import flow, task  # type: ignore[import-not-found]
    from prefect_dask import DaskTaskRunner  # type: ignore[import-not-found]

    # Local functions are pickled with their code: no worker has this module.
    def where() -> str:
        from distributed import get_worker

        return str(get_worker().address)

    def run() -> list[str]:
        submit = task(name=NAME)(where).submit
        submitted = []
        for worker in workers:
            # Otherwise the task of a worker that goes away would wait for ever.
            only = {"workers": [worker], "allow_other_workers": True}
            with dask.annotate(**only, priority=PRIORITY):  # type: ignore[attr-defined]
                submitted.append(submit())
        return [future.result() for future in submitted]

    runner = DaskTaskRunner(address=scheduler_address)
    return flow(name=name, task_runner=runner)(run)(return_state=True)


def check_state(client: Client, prefect: Prefect, workers: Sequence[str], state: Any) -> None:  # noqa: ANN401
    """Raise an error unless the flow is completed, with a task on every worker."""
    ended = str(state.type.value)
    if ended != COMPLETED:
        found = f"{ended}: {state.message}" if state.message else ended
        problem = f"expected a flow at {prefect.api_url} to end {COMPLETED}, found {found}"
        raise WorkerError(problem)
    missing = sorted(set(workers) - set(state.result()))
    if missing:
        check_busy(client, missing, waiting=False)  # another worker has taken over its task
        raise WorkerError(f"expected a flow task on {', '.join(missing)}, found none")


def recorded_tasks(prefect: Prefect, flow_run_id: object, wanted: int) -> int:
    """Return how many completed tasks of a run the server has.

    Raises `UnprovenError` if some are missing after `RECORD_SECONDS`; the workers report them.
    """
    end = time.monotonic() + RECORD_SECONDS
    while True:
        state, tasks = ask_record(flow_run_id)
        if (state, tasks) == (COMPLETED, wanted):
            return tasks
        if time.monotonic() > end:
            raise UnprovenError(
                f"expected {prefect.api_url} to have the flow as {COMPLETED} with {wanted} "
                f"completed tasks, found {state} with {tasks} after {RECORD_SECONDS} s; let the "
                "workers' nodes reach that address"
            )
        time.sleep(PAUSE_SECONDS)


def ask_record(flow_run_id: object) -> tuple[str, int]:
    """Return the server's state of a run, and its number of completed tasks."""
    from prefect.client.orchestration import get_client  # type: ignore[import-not-found]

    of_run = {"flow_runs": {"id": {"any_": [str(flow_run_id)]}}}
    completed = {"task_runs": {"state": {"type": {"any_": [COMPLETED]}}}}
    with get_client(sync_client=True) as api:
        run = api.request("GET", f"/flow_runs/{flow_run_id}").json()
        count = api.request("POST", "/task_runs/count", json=of_run | completed).json()
    return str(run["state_type"]), int(count)


def delete_flow(name: str) -> None:
    """Delete a flow with all its runs from the server."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as api:
        flow_id = api.request("GET", f"/flows/name/{name}").json()["id"]
        api.request("DELETE", f"/flows/{flow_id}")
