"""Data moved between workers on different hosts, and what it means when it does not arrive.

Workers are named by their addresses throughout; a route is (from, to).
"""

import os
import socket
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from .members import moved_or
from .tasks import RESULT_SECONDS, Client, Future, submit, wait
from .versions import group

TRANSFER_SECONDS = 15  # one round of transfers; 4 MiB take 3.4 s at 10 Mbit/s
TRANSFER_BYTES = 4 * 2**20  # far beyond one packet, so that packets of full size are needed
KNOCK_SECONDS = 5

Route = tuple[str, str]


def transfer(client: Client, hosts: Mapping[str, str]) -> list[Route]:
    """Move data between workers on different hosts, each way between every two; return the routes.

    `hosts` is worker to host name. Where containers have names of their own, every worker counts
    as a host, which tests more than is needed and nothing less.
    """
    done: list[Route] = []
    for routes in rounds(group(hosts)):
        stuck = move(client, routes, TRANSFER_BYTES, TRANSFER_SECONDS)
        if stuck:
            raise moved_or(client, hosts, blocked(client, stuck[0]))
        done += routes
    return done


def rounds(hosts: Mapping[str, Sequence[str]]) -> Iterator[list[Route]]:
    """Yield lists of routes, so that all lists together go from every host to every other.

    Within one list each host sends once and receives once, which bounds load and memory; its
    workers take turns.
    """
    names = sorted(hosts)
    for step in range(1, len(names)):
        turn = [hosts[name][step % len(hosts[name])] for name in names]
        yield list(zip(turn, turn[step:] + turn[:step], strict=True))


def move(client: Client, routes: Sequence[Route], size: int, seconds: float) -> list[Route]:
    """Move `size` random bytes along every route at once; return those that did not make it."""
    flights = [fly(client, route, size) for route in routes]
    wait([each for flight in flights for each in flight], seconds)
    return [route for route, flight in zip(routes, flights, strict=True) if not arrived(*flight)]


def fly(client: Client, route: Route, size: int) -> tuple[Future, Future]:
    """Make bytes at one end of the route; return their checksums at this and at the other end."""
    # Fresh bytes for each route: a copy that some other worker has would spare the way.
    block = submit(client, route[0], os.urandom, size)
    return submit(client, route[0], zlib.crc32, block), submit(client, route[1], zlib.crc32, block)


def arrived(sent: Future, received: Future) -> bool:
    """Tell whether both checksums are there and equal."""
    finished = sent.status == received.status == "finished"
    return finished and bool(sent.result(RESULT_SECONDS) == received.result(RESULT_SECONDS))


def blocked(client: Client, route: Route) -> str:
    """Return the complaint about a route, after a try of a connection, which is small packets."""
    size = f"{TRANSFER_BYTES // 2**20} MiB"
    what = f"a transfer of {size} from {route[0]} to {route[1]} did not finish"
    what += f" in {TRANSFER_SECONDS} s"
    # Not a small transfer: a worker has one under way with each peer, and that one is stuck.
    knock = submit(client, route[1], knocks, route[0])
    wait([knock], KNOCK_SECONDS + 2)
    if knock.status == "finished" and knock.result(RESULT_SECONDS):
        return (
            f"{what}: small messages pass, large ones do not; check the overlay's MTU, it must be "
            "50 bytes below that of the network between the nodes"
        )
    return (
        f"{what}, nor did a connection open in {KNOCK_SECONDS} s: nothing gets through; open "
        "4789/udp and 7946 tcp and udp between these nodes"
    )


def knocks(address: str) -> bool:
    """Tell whether `tcp://host:port` accepts a connection."""
    url = urlsplit(address)
    with suppress(OSError):
        socket.create_connection((url.hostname, url.port), timeout=KNOCK_SECONDS).close()
        return True
    return False
