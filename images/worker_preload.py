"""How a Dask worker joins and leaves: with its work handed over, or not at all.

A preload of `dask worker`, mounted into containers of any image as a Swarm config: hence one file,
which needs nothing but distributed. Told to leave by its nanny (`nanny_preload.py`), the worker
gives back the tasks that it has not begun, has the scheduler move its data to the other workers,
finishes what runs, has that moved too, and ends. A lost scheduler ends it at once, and so does
whatever else closes it: its nanny starts the next one. A worker that joins sends the keys of the
object store to the scheduler (`scheduler_preload.py`).
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
from distributed.core import Status

DRAIN_SECONDS = 50  # for everything; the service's grace period is longer, and then it is killed
MOVING_SECONDS = 10  # of these, for what the last tasks have made
TAKER_SECONDS = 5  # for another worker to come that takes the data; for one that is paused longer
ANSWER_SECONDS = 10  # a scheduler that is silent for longer counts as lost
CLOSE_SECONDS = 5
LEAVE = signal.SIGUSR1  # what the nanny sends
S3_CREDENTIALS = Path("/run/secrets/s3_credentials")  # if the stack has an object store

logger = logging.getLogger("distributed.worker.leaving")
departures: list["asyncio.Task[None]"] = []  # of the one worker that this process is
left: list[str] = []  # its address, when it has nothing more to hand over


async def dask_setup(worker: Worker) -> None:
    """Take the order to leave from the nanny alone; send the S3 credentials, if there are any."""
    loop = asyncio.get_running_loop()
    signal.signal(LEAVE, lambda *_: loop.call_soon_threadsafe(told_to_leave, worker))
    # A forked worker has the nanny's answer to SIGTERM; the nanny uses it when memory is full.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # A signal to the nanny's process group, as the official images send it, stops the nanny alone.
    # The nanny can end what tasks have started with the worker's own group.
    os.setpgid(0, 0)
    if S3_CREDENTIALS.exists():
        text = S3_CREDENTIALS.read_text(encoding="utf-8")
        await worker.scheduler.store_s3_credentials(text=text)


async def dask_teardown(worker: Worker) -> None:
    """End a worker that closes, with tasks that would keep it; distributed calls this early."""
    if departures and worker.address not in left:
        end("the scheduler is lost")
    elif not departures and worker.periodic_callbacks["heartbeat"].is_running():
        # One that was never registered goes on to tell its nanny why it failed.
        end("closed")


def told_to_leave(worker: Worker) -> None:
    """Leave, or end at once with nothing to hand over."""
    if worker.status not in (Status.running, Status.paused):
        end("told to leave without a scheduler")
    departures.append(asyncio.get_running_loop().create_task(leave(worker)))


async def leave(worker: Worker) -> None:
    """Hand everything over within `DRAIN_SECONDS`, close and end."""
    begun = time.monotonic()
    work = asyncio.create_task(hand_over(worker, begun + DRAIN_SECONDS - MOVING_SECONDS))
    watch = asyncio.create_task(watch_scheduler(worker))
    logger.info("told to leave; handing over %d results", len(worker.data))
    done, _ = await asyncio.wait(
        {work, watch}, timeout=DRAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED
    )
    watch.cancel()
    if work not in done:
        end("the scheduler does not answer" if done else f"not done after {DRAIN_SECONDS} s")
    tell(work, time.monotonic() - begun)
    left.append(worker.address)
    await close(worker)


def tell(work: "asyncio.Task[bool]", seconds: float) -> None:
    """Log how the handing over went; a scheduler that was lost meanwhile ends it all."""
    error = work.exception()
    if isinstance(error, OSError):
        end("the scheduler is lost")
    if not error and work.result():
        logger.info("handed everything over in %.1f s", seconds)
    else:
        logger.warning("could not hand over: %s", error or "no other worker takes it")


async def hand_over(worker: Worker, latest: float) -> bool:
    """Return whether the others have everything; tasks that still run at `latest` do not count."""
    # The scheduler sends nothing new from here on, and nothing that waits is begun.
    worker.status = Status.closing_gracefully
    give_back(worker)
    if not await retired(worker, latest, remove=False):
        return False
    while await busy(worker) and time.monotonic() < latest:
        give_back(worker)
        await asyncio.sleep(0.1)
    return await retired(worker, latest + MOVING_SECONDS, remove=True)


def give_back(worker: Worker) -> None:
    """Have the scheduler send the tasks elsewhere that are here and were not begun."""
    state = worker.state
    for task in [*state.ready, *state.constrained, *state.waiting]:
        stimulus = f"leaving-{time.time()}"
        worker.batched_send({"op": "reschedule", "key": task.key, "stimulus_id": stimulus})


async def busy(worker: Worker) -> bool:
    """Tell whether a task is running, or its end is not yet known to the scheduler."""
    answer = await worker.scheduler.processing(workers=[worker.address])
    return any(answer.values())


async def retired(worker: Worker, latest: float, *, remove: bool) -> bool:
    """Return whether the scheduler has moved all data away, and removed the worker if asked to."""
    if worker.state.actors:
        return await copied(worker)
    soon = time.monotonic() + TAKER_SECONDS
    while True:
        answer = await worker.scheduler.retire_workers(
            workers=[worker.address], close_workers=False, remove=remove
        )
        if worker.address in answer or time.monotonic() > latest:
            return worker.address in answer
        if time.monotonic() > soon and not await someone_is_paused(worker):
            return False
        await asyncio.sleep(0.5)
        worker.status = Status.closing_gracefully


async def someone_is_paused(worker: Worker) -> bool:
    """Tell whether another worker has its memory too full to take more, which may pass."""
    known = (await worker.scheduler.identity(n_workers=-1))["workers"]
    others = [each for address, each in known.items() if address != worker.address]
    return any(each["status"] == "paused" for each in others)


async def copied(worker: Worker) -> bool:
    """Return whether others have the data of a worker whose actors, as all do, cannot be moved.

    The scheduler does not retire such a worker, nor move anything of it.
    """
    logger.warning("%d actors are lost: they cannot be moved", len(worker.state.actors))
    failed = await worker.scheduler.replicate(keys=list(worker.data), n=1, delete=False)
    return not failed


async def watch_scheduler(worker: Worker) -> None:
    """Return when the scheduler does not answer any more."""
    ask: Callable[..., Awaitable[object]] = worker.scheduler.ncores
    with suppress(OSError, asyncio.TimeoutError):
        while True:
            await asyncio.wait_for(ask(workers=[worker.address]), ANSWER_SECONDS)
            await asyncio.sleep(1)


async def close(worker: Worker) -> None:
    """Close the worker as far as that can be done in time, without waiting for its tasks."""
    with suppress(Exception):
        await asyncio.wait_for(worker.close(executor_wait=False, timeout=1), CLOSE_SECONDS)
    end("closed")


def end(reason: str) -> None:
    """End the process now, with threads that would keep it, and write out what was printed."""
    logger.info("ending: %s", reason)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(0)
