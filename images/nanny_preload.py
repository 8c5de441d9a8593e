"""How the nanny of a Dask worker starts and stops the worker's process.

A preload of `dask worker --nanny`, mounted into containers of any image as a Swarm config: hence
one file, which needs nothing but distributed. It loads the stack's environment variables, waits
for the scheduler, and kills the processes that a dead worker has left behind. The stop signal
(SIGTERM) reaches the nanny alone: it has the worker leave (`worker_preload.py`) and ends; a second
SIGTERM ends both at once. A nanny that loses its scheduler closes without a stop signal and then
restarts in place: distributed cannot connect it to another scheduler, and a new task of the Swarm
takes seconds longer.
"""

import asyncio
import functools
import json
import logging
import os
import shutil
import signal
import socket
import ssl
import sys
import time
from contextlib import suppress
from pathlib import Path

import dask
from distributed import Nanny
from distributed.comm import (
    connect,
    get_address_host,
    parse_address,
    parse_host_port,
    unparse_address,
    unparse_host_port,
)
from distributed.comm.core import FatalCommClosedError
from distributed.core import Status

ENVIRONMENT = Path("/run/secrets/dask_environment")  # a JSON object, if the stack has one
LEAVE = signal.SIGUSR1  # the worker's leave signal
LEAVE_SECONDS = 57  # longer than a worker needs, shorter than the service's grace period
SIGNAL_SECONDS = 0.05  # time to handle a signal that was already caught
MIN_LIFE_SECONDS = 5  # before a nanny restarts, so that it does not restart in a tight loop
MONITOR_MILLISECONDS = 20  # between two checks of the worker's memory
CONNECT_SECONDS = 2  # for a connection to the scheduler, before the next try
NOT_YET_VALID = 9  # OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID
EXPIRED = "has expired. Fix: pulumi up"
EARLY = "is not valid yet: the clock of {} is behind. Fix: sudo timedatectl set-ntp true there"
EARLY_HERE = EARLY.format("the worker's node")
REFUSED = (  # the scheduler's alert, and what is wrong with this worker's certificate
    ("certificate expired", EXPIRED),
    # TLS has no alert for this, and nothing else is bad about this stack's certificates.
    ("bad certificate", EARLY.format("the scheduler's node")),
)
REFUSED_SECONDS = 5  # before the next try, which is another line in the scheduler's log

logger = logging.getLogger("distributed.nanny.preload")
started = time.monotonic()
stop_tasks: list["asyncio.Task[None]"] = []  # a process has one nanny
worker_pids: list[int] = []


def load_environment() -> None:
    """Set the stack's environment variables, over those of the image and the command line."""
    if ENVIRONMENT.exists():
        os.environ.update(json.loads(ENVIRONMENT.read_text(encoding="utf-8")))
        dask.config.refresh()


# At import, because a nanny reads its configuration and environment before it calls `dask_setup`.
load_environment()


async def dask_setup(nanny: Nanny) -> None:
    """Prepare the nanny, wait for the scheduler, and listen on its network."""
    catch_stop(nanny)
    watch_memory_closely(nanny)
    prepare_start(nanny)
    address = await wait_for_scheduler(nanny)
    await stay_on_schedulers_network(nanny, address)


async def dask_teardown(nanny: Nanny) -> None:
    """Restart a nanny that had a worker and got no stop signal."""
    # A nanny that never had a worker ends, so that the Swarm shows its error.
    if not stop_tasks and nanny.worker_address:
        await restart_in_place(nanny)


def catch_stop(nanny: Nanny) -> None:
    """Replace distributed's SIGTERM handler, which drops all work."""
    loop = asyncio.get_running_loop()
    # Not `loop.add_signal_handler`: a forked worker inherits the loop's socket, and its signals
    # would count as the nanny's.
    signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(on_stop_signal, nanny))


def watch_memory_closely(nanny: Nanny) -> None:
    """End a worker that exceeds its memory before the kernel does.

    With Dask's check every 100 ms, the nanny is faster in half of the cases only: it ends a worker
    at 95 % of the container's limit.
    """
    if monitor := nanny.periodic_callbacks.get("memory_monitor"):
        monitor.callback_time = MONITOR_MILLISECONDS


async def wait_for_scheduler(nanny: Nanny) -> str:
    """Wait until the scheduler accepts connections, and answer the health check meanwhile.

    Return this container's address that reaches it. distributed's nanny gives up after 30 s.
    """
    logger.info("waiting for the scheduler at %s", nanny.scheduler_addr)
    port = int(nanny.worker_kwargs["dashboard_address"].rpartition(":")[2])
    server = await asyncio.start_server(answer, port=port)
    try:
        await wait_for_certificate(nanny)
        while not (address := await accepted_from(nanny)):
            await asyncio.sleep(0.2)
    finally:
        server.close()
    return address


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the health check."""
    await reader.readline()
    writer.write(b"HTTP/1.0 200 OK\r\n\r\n")
    writer.close()


async def accepted_from(nanny: Nanny) -> str:
    """Return from which address the scheduler accepts a connection, empty if it does not.

    During an update its name stands for the old and the new scheduler, and the old scheduler may
    have other certificates, or none. The nanny can get either, so both must accept.
    """
    address = ""
    try:
        for scheduler in await addresses_of(nanny.scheduler_addr):
            comm = await connect(scheduler, timeout=CONNECT_SECONDS, **nanny.connection_args)
            address = get_address_host(comm.local_address)
            comm.abort()
    except FatalCommClosedError as error:
        text = f"its certificate {EARLY_HERE}" if is_too_early(error.__cause__) else error
        warn_once(f"{nanny.scheduler_addr}: {text}")
        return ""
    except (OSError, asyncio.TimeoutError) as error:  # noqa: UP041  another class in Python 3.10
        for alert, reason in REFUSED:
            if alert in str(error):
                refusal = f"it refuses the certificate of this worker, which {reason}"
                warn_once(f"{nanny.scheduler_addr}: {refusal}")
                await asyncio.sleep(REFUSED_SECONDS)
        return ""
    return address


async def wait_for_certificate(nanny: Nanny) -> None:
    """Wait until the worker's certificate is valid by the clock of this node.

    A scheduler with the right time would accept it, but this worker would refuse the others.
    """
    while has_early_certificate(nanny):
        warn_once(f"the certificate of this worker {EARLY_HERE}")
        await asyncio.sleep(1)


def has_early_certificate(nanny: Nanny) -> bool:
    """Return whether the worker's certificate is not valid yet by the clock of this node."""
    if not (context := nanny.connection_args.get("ssl_context")):
        return False
    # Without a socket: only a handshake shows what OpenSSL has against a certificate.
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server)
    listener = nanny.security.get_listen_args("worker")["ssl_context"]
    server = listener.wrap_bio(to_server, to_client, server_side=True)
    try:
        for side in (client, server, client):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except ssl.SSLError as error:
        return is_too_early(error)
    return False


def is_too_early(error: "BaseException | None") -> bool:
    """Return whether OpenSSL refuses a certificate because it is not valid yet."""
    return getattr(error, "verify_code", 0) == NOT_YET_VALID


async def addresses_of(scheduler: str) -> set[str]:
    """Return all addresses that the name in a scheduler's address stands for."""
    scheme, place = parse_address(scheduler)
    host, port = parse_host_port(place)
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    places = {unparse_host_port(address[0], port) for *_, address in found}
    return {unparse_address(scheme, place) for place in places}


async def stay_on_schedulers_network(nanny: Nanny, address: str) -> None:
    """Have the worker listen on the scheduler's network only; restart a nanny on another network.

    A nanny that starts before the scheduler's name exists takes any address of its container, and
    distributed remembers that address for the worker.
    """
    if nanny.ip != address:
        await restart_in_place(nanny, f"{nanny.ip} is not on the scheduler's network")
    nanny.worker_kwargs["host"] = address


@functools.cache
def warn_once(text: str) -> None:
    """Log a warning, unless it was logged before."""
    logger.warning(text)


def prepare_start(nanny: Nanny) -> None:
    """Have the nanny kill a dead worker's processes before it starts the next worker.

    It also waits until the scheduler accepts its certificate.
    """
    start = nanny.instantiate

    async def instantiate() -> Status:
        if not nanny.is_alive():
            end_leftovers()
            # The worker itself would try ten times a second, and not say why it is refused. The
            # first start has just waited.
            if nanny.status == Status.running and not await accepted_from(nanny):
                await wait_for_scheduler(nanny)
        status = await start()
        if nanny.pid:
            worker_pids.append(nanny.pid)
        return status

    nanny.instantiate = instantiate


def end_leftovers() -> None:
    """Kill the processes that tasks of the last worker have started.

    They keep its memory, its connections and the port of the health check.
    """
    with suppress(IndexError, ProcessLookupError):
        os.killpg(worker_pids.pop(), signal.SIGKILL)


def on_stop_signal(nanny: Nanny) -> None:
    """Have the worker leave; end at once on the second signal or without a worker."""
    if stop_tasks:
        end(nanny, "second stop signal")
    if not nanny.is_alive():
        end(nanny, "stop signal without a worker")
    stop_tasks.append(asyncio.get_running_loop().create_task(stop(nanny)))


async def stop(nanny: Nanny) -> None:
    """Have the worker leave within `LEAVE_SECONDS`, and end."""
    nanny.close_gracefully("stop signal")  # a worker that dies is not started again
    start = time.monotonic()
    send(nanny, LEAVE)
    while nanny.is_alive() and time.monotonic() - start < LEAVE_SECONDS:
        await asyncio.sleep(0.05)
    end(nanny, f"the worker still runs after {LEAVE_SECONDS} s" if nanny.pid else "closed")


def send(nanny: Nanny, number: signal.Signals) -> None:
    """Send a signal to the worker's process, if there is one."""
    if nanny.pid:
        with suppress(ProcessLookupError):
            os.kill(nanny.pid, number)


async def restart_in_place(nanny: Nanny, reason: str = "closed without a stop signal") -> None:
    """Replace this process by a new process with the same command line."""
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(nanny.kill(timeout=1), 3)
    end_leftovers()
    # distributed runs a copy of the mounted file. The copy is read-only too, and the new process
    # has to overwrite it.
    with suppress(OSError):
        Path(__file__).chmod(0o644)
    await asyncio.sleep(max(0, MIN_LIFE_SECONDS - (time.monotonic() - started)))
    # A stop signal can arrive together with the loss of the scheduler. `on_stop_signal` still
    # handles an earlier signal, and a later signal ends this process or the next one.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    await asyncio.sleep(SIGNAL_SECONDS)
    flush(f"{reason}; restarting the nanny")
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  no shell wanted


def end(nanny: Nanny, reason: str) -> None:
    """End both processes now, with the exit code of success, and without spilled data."""
    send(nanny, signal.SIGKILL)
    # Swarm keeps ended containers, with their files.
    if nanny.worker_dir:
        shutil.rmtree(nanny.worker_dir, ignore_errors=True)
    flush(f"ending: {reason}")
    os._exit(0)


def flush(message: str) -> None:
    """Log a last message and flush all output."""
    logger.info(message)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
