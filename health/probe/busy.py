"""Workers whose threads all run tasks of users, and the wait for the proof's own tasks.

The proof's tasks are next on a thread. So a worker that has not started one for a while is either
busy with longer tasks, which is no fault, or it is broken.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from typing import Any

from .members import workers_of
from .tasks import BUSY_SECONDS, PRIORITY, RESULT_SECONDS, Client, Future, by_value

ASK_SECONDS = 5  # for the event loop of a worker to answer
ASKED_AT_ONCE = 32


class BusyError(Exception):
    """All threads of some workers run tasks of users, so the proof must start again without them.

    `workers` is worker to tasks.
    """

    def __init__(self, workers: Mapping[str, str]) -> None:
        super().__init__(workers)
        self.workers = dict(workers)


def wait(
    client: Client, workers: Collection[str], futures: Sequence[Future], seconds: float
) -> None:
    """Wait until all futures, tasks on the workers, are done, or none gets done for `seconds`.

    Raises `BusyError` if tasks of users keep a task waiting: after `BUSY_SECONDS` if they have run
    so long, after `seconds` in any case.
    """
    left = len(futures) + 1
    while waiting := sum(not future.done() for future in futures):
        if waiting < left:
            start, left, ask_at = time.monotonic(), waiting, BUSY_SECONDS
        elapsed = time.monotonic() - start
        if elapsed > min(ask_at, seconds):
            least = BUSY_SECONDS if elapsed < seconds else 0
            check_busy(client, workers, least)
            ask_at += BUSY_SECONDS
        if elapsed > seconds:
            return
        time.sleep(0.01)


def check_busy(
    client: Client, workers: Collection[str], least: float = 0, *, waiting: bool = True
) -> None:
    """Raise `BusyError` if tasks of users have run for `least` seconds on all threads of a worker.

    With `waiting` only if it has a task of the proof that waits for a thread.
    """
    busy = {}
    for worker, found in ask(client, workers, activity).items():
        seconds = found["running"].values()
        is_full = len(seconds) >= found["threads"] and min(seconds) >= least
        if is_full and not found["own"] and (found["waiting"] or not waiting):
            busy[worker] = spell(found["running"])
    if busy:
        raise BusyError(busy)


def spell(running: Mapping[str, float]) -> str:
    """Return `train for 412 s` for the tasks of a worker."""
    from dask.utils import key_split

    return ", ".join(f"{key_split(key)} for {seconds:.0f} s" for key, seconds in running.items())


def ask(
    client: Client, workers: Collection[str], function: Callable[[Any], Any]
) -> dict[str, Any]:
    """Call a function with the worker in the event loop of each worker, beside its tasks.

    Returns worker to answer, without the workers that do not answer within `ASK_SECONDS`.
    """
    portable = by_value(function)

    def call(dask_worker: object) -> object:
        return portable(dask_worker)

    def answer(worker: str) -> Any:  # noqa: ANN401
        return client.run(call, workers=[worker], on_error="ignore").get(worker)

    # One call for each worker: a broadcast waits for the slowest.
    pool = ThreadPoolExecutor(ASKED_AT_ONCE)
    asked = {worker: pool.submit(answer, worker) for worker in workers}
    done = wait_for(asked.values(), ASK_SECONDS).done
    pool.shutdown(wait=False, cancel_futures=True)
    answers = {w: f.result() for w, f in asked.items() if f in done and not f.exception()}
    return {worker: found for worker, found in answers.items() if found is not None}


def activity(worker: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return what a worker does: key to seconds of its running tasks, and which are the proof's.

    `Client.processing` does not separate running from ready tasks, and `Client.call_stack` has no
    seconds. So this reads the worker's state.
    """
    state, now = worker.state, time.time()
    own = [str(task.key) for task in state.executing if task.priority[0] == -PRIORITY]
    ready = [task.priority[0] for task in state.ready]
    stacks = {str(key): stack for key, stack in worker.get_call_stack().items() if stack}
    return {
        "running": {str(task.key): now - (task.start_time or now) for task in state.executing},
        "own": {key: " ".join(stacks.get(key, ["an unknown line"])[-1].split()) for key in own},
        "ready": len(ready),
        # The scheduler keeps its tasks from a paused worker.
        "waiting": -PRIORITY in ready or worker.status.name == "paused",
        "threads": state.nthreads,
    }


def failure(client: Client, worker: str, future: Future, seconds: float) -> str:
    """Return the error of a task, or why it has no result after `seconds`."""
    if future.status == "error":
        return repr(future.exception(RESULT_SECONDS))
    return f"no result after {seconds} s: {explain(client, worker, future.key)}"


def explain(client: Client, worker: str, key: str) -> str:
    """Return what scheduler and worker report of a task that has no result."""

    def state_of(dask_scheduler: Any) -> str:  # noqa: ANN401
        task = dask_scheduler.tasks.get(key)
        return task.state if task else "forgotten"

    state = client.run_on_scheduler(state_of)
    known = workers_of(client).get(worker)
    if not known:
        return f"its state is {state}, and the worker is gone"
    used, limit = known["metrics"]["memory"] // 2**20, (known["memory_limit"] or 0) // 2**20
    about = f"its state is {state}; the worker is {known['status']} at {used} MiB of {limit} MiB"
    found = ask(client, [worker], activity).get(worker)
    if not found:
        return f"{about} and does not answer within {ASK_SECONDS} s"
    lines = "".join(f"; {own} is at {line}" for own, line in found["own"].items())
    tasks = f"runs {spell(found['running']) or 'no task'} and has {found['ready']} ready"
    return f"{about}, {tasks}{lines}"
