"""Transfers of data between workers of different engines, and the cause if one does not arrive.

A worker is its address; a route is (from, to).
"""

import os
import socket
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from .busy import wait
from .members import WorkerError
from .tasks import RESULT_SECONDS, Client, Future, submit
from .versions import group

TRANSFER_SECONDS = 15  # without an arrival; 4 MiB take 3.4 s at 10 Mbit/s
TRANSFER_BYTES = 4 * 2**20  # many packets of full size
CONNECT_SECONDS = 5

Route = tuple[str, str]


def transfer(client: Client, engines: Mapping[str, str]) -> list[Route]:
    """Move data from every engine to every other; return the routes.

    `engines` is worker to engine.
    """
    done: list[Route] = []
    for routes in rounds(group(engines)):
        failed = move(client, routes, TRANSFER_BYTES, TRANSFER_SECONDS)
        if failed:
            raise WorkerError(transfer_problem(client, failed[0]))
        done += routes
    return done


def rounds(engines: Mapping[str, Sequence[str]]) -> Iterator[list[Route]]:
    """Yield rounds of routes, which together go from every engine to every other.

    In a round every engine sends once and receives once, which bounds load and memory. The
    workers of an engine take turns.
    """
    names = sorted(engines)
    for step in range(1, len(names)):
        turn = [engines[name][step % len(engines[name])] for name in names]
        yield list(zip(turn, turn[step:] + turn[:step], strict=True))


def move(client: Client, routes: Sequence[Route], size: int, seconds: float) -> list[Route]:
    """Move `size` random bytes along all routes at once; return the routes that failed."""
    transfers = [start_transfer(client, route, size) for route in routes]
    workers = {worker for route in routes for worker in route}
    wait(client, workers, [future for transfer in transfers for future in transfer], seconds)
    return [r for r, transfer in zip(routes, transfers, strict=True) if not arrived(*transfer)]


def start_transfer(client: Client, route: Route, size: int) -> tuple[Future, Future]:
    """Move bytes along a route; return their checksums at its start and at its end."""
    # New bytes for each route: a copy on another worker would shorten the route.
    block = submit(client, route[0], os.urandom, size)
    return submit(client, route[0], zlib.crc32, block), submit(client, route[1], zlib.crc32, block)


def arrived(sent: Future, received: Future) -> bool:
    """Return whether both checksums exist and are equal."""
    finished = sent.status == received.status == "finished"
    return finished and bool(sent.result(RESULT_SECONDS) == received.result(RESULT_SECONDS))


def transfer_problem(client: Client, route: Route) -> str:
    """Return the problem of a failed route, after a test of its port with small packets."""
    size = f"{TRANSFER_BYTES // 2**20} MiB"
    what = f"a transfer of {size} from {route[0]} to {route[1]} did not finish"
    what += f" in {TRANSFER_SECONDS} s"
    # Not a small transfer: workers make one transfer at a time to a peer, and that one is stuck.
    future = submit(client, route[1], accepts_connection, route[0])
    wait(client, [route[1]], [future], CONNECT_SECONDS + 2)
    if future.status == "finished" and future.result(RESULT_SECONDS):
        return (
            f"{what}: small messages pass, large ones do not; check the overlay's MTU, it must be "
            "50 bytes below the MTU of the network between the nodes"
        )
    return (
        f"{what}, and no connection opened in {CONNECT_SECONDS} s: nothing gets through; open "
        "4789/udp and 7946 tcp and udp between these nodes, with networkEncrypted also IP "
        "protocol 50 (sudo modprobe esp4 on both); if they are open: sudo ethtool -K "
        "<interface> tx-checksum-ip-generic off, on both"
    )


def accepts_connection(address: str) -> bool:
    """Return whether `tcp://host:port` accepts a connection."""
    url = urlsplit(address)
    with suppress(OSError):
        socket.create_connection((url.hostname, url.port), timeout=CONNECT_SECONDS).close()
        return True
    return False
