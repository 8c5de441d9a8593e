"""How a Dask worker joins and leaves the cluster without losing work.

A preload of `dask worker`, mounted into containers of any image as a Swarm config: hence one file,
which needs nothing but distributed. On the nanny's leave signal (`nanny_preload.py`) the worker
gives back its waiting tasks, has the scheduler move its data to other workers, finishes its
running tasks, has their results moved too, and ends. If the scheduler is lost or anything else
closes the worker, it ends at once and its nanny starts the next one. A worker that joins sends the
keys of the object store to the scheduler (`scheduler_preload.py`).
"""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from distributed import Worker
from distributed.comm import connect
from distributed.comm.core import FatalCommClosedError
from distributed.core import Status

DRAIN_SECONDS = 50  # the whole handover; Swarm kills the container after its longer grace period
MOVING_SECONDS = 10  # the part of it that is kept for the results of the last tasks
RECEIVER_SECONDS = 5  # for a worker that can accept our data; a paused worker gets longer
ANSWER_SECONDS = 10  # a scheduler that is silent for longer counts as lost
CLOSE_SECONDS = 5
LEAVE = signal.SIGUSR1  # the nanny sends it
S3_CREDENTIALS = Path("/run/secrets/s3_credentials")  # if the stack has an object store

logger = logging.getLogger("distributed.worker.leaving")
leave_tasks: list["asyncio.Task[None]"] = []  # a process has one worker
drained: list[str] = []  # its address, once it has nothing left to hand over


async def dask_setup(worker: Worker) -> None:
    """Listen for the nanny's leave signal, and send the S3 credentials if the stack has any."""
    loop = asyncio.get_running_loop()
    signal.signal(LEAVE, lambda *_: loop.call_soon_threadsafe(on_leave_signal, worker))
    # A forked worker inherits the nanny's SIGTERM handler, but the nanny sends SIGTERM to end a
    # worker whose memory is full.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # With its own process group, the worker does not get the signals that the official images send
    # to the nanny's group, and the nanny can end the processes that tasks have started.
    os.setpgid(0, 0)
    if S3_CREDENTIALS.exists():
        text = S3_CREDENTIALS.read_text(encoding="utf-8")
        await worker.scheduler.store_s3_credentials(text=text)


async def dask_teardown(worker: Worker) -> None:
    """End a closing worker although its tasks still run; distributed calls this early."""
    if leave_tasks and worker.address not in drained:
        end("the scheduler is lost")
    elif not leave_tasks and worker.periodic_callbacks["heartbeat"].is_running():
        # A worker that never registered keeps running, to send its nanny the error.
        end("closed")


def on_leave_signal(worker: Worker) -> None:
    """Leave, or end at once if the worker has nothing to hand over."""
    if worker.status not in (Status.running, Status.paused):
        end("leave signal without a scheduler")
    leave_tasks.append(asyncio.get_running_loop().create_task(leave(worker)))


async def leave(worker: Worker) -> None:
    """Hand everything over within `DRAIN_SECONDS`, close and end."""
    if await has_expired(worker):
        # The scheduler would try all the time, and an update of many workers would take too long.
        end("its certificate has expired, so no worker can take its results")
    start = time.monotonic()
    work = asyncio.create_task(hand_over(worker, start + DRAIN_SECONDS - MOVING_SECONDS))
    watch = asyncio.create_task(watch_scheduler(worker))
    logger.info("leave signal: handing over %d results", len(worker.data))
    done, _ = await asyncio.wait(
        {work, watch}, timeout=DRAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED
    )
    watch.cancel()
    if work not in done:
        end("the scheduler does not answer" if done else f"not done after {DRAIN_SECONDS} s")
    log_handover(work, time.monotonic() - start)
    drained.append(worker.address)
    await close(worker)


async def has_expired(worker: Worker) -> bool:
    """Return whether the worker's certificate has expired, so that no one can connect to it."""
    try:
        comm = await connect(worker.address, timeout=CLOSE_SECONDS, **worker.connection_args)
    except FatalCommClosedError as error:
        return "expired" in str(error.__cause__)
    except (OSError, asyncio.TimeoutError):  # noqa: UP041  another class in Python 3.10
        return False
    comm.abort()
    return False


def log_handover(work: "asyncio.Task[bool]", seconds: float) -> None:
    """Log the result of the handover; end if the scheduler was lost meanwhile."""
    error = work.exception()
    if isinstance(error, OSError):
        end("the scheduler is lost")
    if not error and work.result():
        logger.info("handed everything over in %.1f s", seconds)
    else:
        logger.warning("could not hand over: %s", error or "no other worker accepts the data")


async def hand_over(worker: Worker, latest: float) -> bool:
    """Move everything to other workers, without tasks that still run at `latest`."""
    # From here on the scheduler sends no new task, and the worker starts no waiting task.
    worker.status = Status.closing_gracefully
    give_back(worker)
    if not await retire(worker, latest, remove=False):
        return False
    while await is_busy(worker) and time.monotonic() < latest:
        give_back(worker)
        await asyncio.sleep(0.1)
    return await retire(worker, latest + MOVING_SECONDS, remove=True)


def give_back(worker: Worker) -> None:
    """Have the scheduler send this worker's waiting tasks to other workers."""
    state = worker.state
    for task in [*state.ready, *state.constrained, *state.waiting]:
        stimulus = f"leaving-{time.time()}"
        worker.batched_send({"op": "reschedule", "key": task.key, "stimulus_id": stimulus})


async def is_busy(worker: Worker) -> bool:
    """Return whether the scheduler still counts a task of this worker as running."""
    answer = await worker.scheduler.processing(workers=[worker.address])
    return any(answer.values())


async def retire(worker: Worker, latest: float, *, remove: bool) -> bool:
    """Have the scheduler move all data away, and with `remove` forget this worker."""
    if worker.state.actors:
        return await copy_data(worker)
    receiver_deadline = time.monotonic() + RECEIVER_SECONDS
    while True:
        answer = await worker.scheduler.retire_workers(
            workers=[worker.address], close_workers=False, remove=remove
        )
        if worker.address in answer or time.monotonic() > latest:
            return worker.address in answer
        if time.monotonic() > receiver_deadline and not await other_worker_is_paused(worker):
            return False
        await asyncio.sleep(0.5)
        worker.status = Status.closing_gracefully


async def other_worker_is_paused(worker: Worker) -> bool:
    """Return whether another worker's memory is full at the moment."""
    others = await other_workers(worker)
    return any(info["status"] == "paused" for info in others.values())


async def other_workers(worker: Worker) -> dict[str, dict[str, object]]:
    """Return what the scheduler knows of each other worker, by address."""
    workers = (await worker.scheduler.identity(n_workers=-1))["workers"]
    return {address: info for address, info in workers.items() if address != worker.address}


async def copy_data(worker: Worker) -> bool:
    """Copy the data of a worker with actors to other workers; actors cannot be moved.

    The scheduler does not retire a worker with actors, and moves none of its data.
    """
    logger.warning("%d actors are lost: they cannot be moved", len(worker.state.actors))
    # The others by name: the scheduler may not know yet that this worker is leaving, and then one
    # replica, here, would be enough for it.
    others = list(await other_workers(worker))
    failed = await worker.scheduler.replicate(
        keys=list(worker.data), n=1, workers=others, delete=False
    )
    return not failed


async def watch_scheduler(worker: Worker) -> None:
    """Return when the scheduler stops answering."""
    ask: Callable[..., Awaitable[object]] = worker.scheduler.ncores
    with suppress(OSError, asyncio.TimeoutError):
        while True:
            await asyncio.wait_for(ask(workers=[worker.address]), ANSWER_SECONDS)
            await asyncio.sleep(1)


async def close(worker: Worker) -> None:
    """Close the worker within `CLOSE_SECONDS`, without waiting for its tasks."""
    with suppress(Exception):
        await asyncio.wait_for(worker.close(executor_wait=False, timeout=1), CLOSE_SECONDS)
    end("closed")


def end(reason: str) -> None:
    """Flush the output and end the process now, even if threads still run."""
    logger.info("ending: %s", reason)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(0)
