"""How the nanny of a Dask worker starts and stops the worker's process.

A preload of `dask worker --nanny`, mounted into containers of any image as a Swarm config: hence
one file, which needs nothing but distributed. It loads the environment of work, waits for the
scheduler, and kills what a worker that died has left behind. A signal to stop (SIGTERM) comes to
the nanny alone: it has the worker leave (`worker_preload.py`) and ends; a second one ends both at
once. A nanny that closes though nobody told it to stop, because the scheduler is lost, starts
anew in its place: distributed cannot connect it to another scheduler, and the Swarm takes seconds
longer.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import dask
from distributed import Nanny
from distributed.comm import get_address_host_port
from distributed.core import Status

ENVIRONMENT = Path("/run/secrets/dask_environment")  # a JSON object, if the stack has one
LEAVE = signal.SIGUSR1  # what the worker takes as the order to leave
LEAVE_SECONDS = 57  # more than a worker takes; the service's grace period is longer
CAUGHT_SECONDS = 0.05  # for a signal that was caught to be acted on
LIFE_SECONDS = 5  # what a nanny lives at least before it starts anew, lest it spin
MONITOR_MILLISECONDS = 20  # between two looks at the worker's memory
CONNECT_SECONDS = 2  # for a connection to the scheduler, before the next try

logger = logging.getLogger("distributed.nanny.preload")
started = time.monotonic()
stops: list["asyncio.Task[None]"] = []  # of the one nanny that this process is
workers: list[int] = []  # process ids


def load_environment() -> None:
    """Set the environment variables of work, over those of the image and the command line."""
    if ENVIRONMENT.exists():
        os.environ.update(json.loads(ENVIRONMENT.read_text(encoding="utf-8")))
        dask.config.refresh()


# At import, because a nanny reads its configuration and environment before it calls `dask_setup`.
load_environment()


async def dask_setup(nanny: Nanny) -> None:
    """Prepare the nanny, and wait for the scheduler."""
    catch_stop(nanny)
    watch_memory_closely(nanny)
    end_leftovers_before_start(nanny)
    await wait_for_scheduler(nanny)


async def dask_teardown(nanny: Nanny) -> None:
    """Start anew, if this nanny had a worker and nobody told it to stop."""
    # One that never had a worker ends: the Swarm shows why it failed.
    if not stops and nanny.worker_address:
        await start_anew(nanny)


def catch_stop(nanny: Nanny) -> None:
    """Replace distributed's own answer to SIGTERM, which is to drop everything."""
    loop = asyncio.get_running_loop()
    # Not the loop's own handlers: a forked worker inherits their socket, and its signals would
    # count as the nanny's.
    signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(told_to_stop, nanny))


def watch_memory_closely(nanny: Nanny) -> None:
    """Have a worker that exceeds its memory ended before the kernel does it.

    Looking every 100 ms, as Dask does, the nanny is first in half of the cases: the limit of the
    container, which is Dask's as well, is only 5 % above what it ends a worker for.
    """
    if monitor := nanny.periodic_callbacks.get("memory_monitor"):
        monitor.callback_time = MONITOR_MILLISECONDS


async def wait_for_scheduler(nanny: Nanny) -> None:
    """Return when the scheduler's port is open.

    A nanny gives up after 30 s, and has no worker until then that answers the health check.
    """
    logger.info("waiting for the scheduler at %s", nanny.scheduler_addr)
    port = int(nanny.worker_kwargs["dashboard_address"].rpartition(":")[2])
    server = await asyncio.start_server(answer, port=port)
    try:
        while not await is_open(*get_address_host_port(nanny.scheduler_addr)):
            await asyncio.sleep(0.2)
    finally:
        server.close()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the health check."""
    await reader.readline()
    writer.write(b"HTTP/1.0 200 OK\r\n\r\n")
    writer.close()


async def is_open(host: str, port: int) -> bool:
    """Tell whether a port accepts connections."""
    with suppress(OSError, asyncio.TimeoutError):
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), CONNECT_SECONDS)
        writer.close()
        return True
    return False


def end_leftovers_before_start(nanny: Nanny) -> None:
    """Have the nanny kill what a worker has left before it starts the next one."""
    start = nanny.instantiate

    async def instantiate() -> Status:
        if not nanny.is_alive():
            end_leftovers()
        status = await start()
        if nanny.pid:
            workers.append(nanny.pid)
        return status

    nanny.instantiate = instantiate


def end_leftovers() -> None:
    """Kill processes that tasks of the last worker have started.

    They would keep its memory, its connections and the port of the health check.
    """
    with suppress(IndexError, ProcessLookupError):
        os.killpg(workers.pop(), signal.SIGKILL)


def told_to_stop(nanny: Nanny) -> None:
    """Have the worker leave; end at once when told a second time or without a worker."""
    if stops:
        end(nanny, "told to stop a second time")
    if not nanny.is_alive():
        end(nanny, "told to stop without a worker")
    stops.append(asyncio.get_running_loop().create_task(stop(nanny)))


async def stop(nanny: Nanny) -> None:
    """Have the worker leave within `LEAVE_SECONDS`, and end."""
    nanny.close_gracefully("told to stop")  # a worker that dies is not started again
    begun = time.monotonic()
    send(nanny, LEAVE)
    while nanny.is_alive() and time.monotonic() - begun < LEAVE_SECONDS:
        await asyncio.sleep(0.05)
    end(nanny, f"the worker is still there after {LEAVE_SECONDS} s" if nanny.pid else "closed")


def send(nanny: Nanny, number: signal.Signals) -> None:
    """Send a signal to the worker's process, if there is one."""
    if nanny.pid:
        with suppress(ProcessLookupError):
            os.kill(nanny.pid, number)


async def start_anew(nanny: Nanny) -> None:
    """Replace this process by a new one with the same command line."""
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(nanny.kill(timeout=1), 3)
    end_leftovers()
    # It runs from distributed's copy, which is read-only like the mounted file, and copied again.
    with suppress(OSError):
        Path(__file__).chmod(0o644)
    await asyncio.sleep(max(0, LIFE_SECONDS - (time.monotonic() - started)))
    # A stop that comes together with the loss must not be lost itself: what was caught until here
    # still comes to `told_to_stop`, and what comes later ends this process, or the next one.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    await asyncio.sleep(CAUGHT_SECONDS)
    flush("closed, and nobody told it to stop; starting anew")
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  no shell wanted


def end(nanny: Nanny, reason: str) -> None:
    """End both processes now; the Swarm knows that they had to."""
    send(nanny, signal.SIGKILL)
    flush(f"ending: {reason}")
    os._exit(0)


def flush(last_words: str) -> None:
    """Log the last words and write out what was printed."""
    logger.info(last_words)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
