"""Times requests and websockets by way of Caddy and directly, in turns, from inside a container.

Run as `python -c <this file>` in the notebook's container, which reaches both alike; the order,
one JSON object, comes on standard input, the seconds leave on standard output. Standard library
only.
"""

import json
import socket
import ssl
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection

Order = dict[str, str]
CADDY, DIRECT = ("dask_caddy", 443), ("dask_scheduler", 8787)
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "ZGFzay1zd2FybS1iZW5jaA==",
}
SECONDS = 10


def opened(order: Order, place: tuple[str, int]) -> HTTPConnection:
    """Return a new connection, over TLS to Caddy."""
    connection = HTTPConnection(*place, timeout=SECONDS)
    wire = socket.create_connection(place, timeout=SECONDS)
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if place == CADDY:
        # Under localhost the certificates are of an authority that nobody here knows.
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        wire = tls.wrap_socket(wire, server_hostname=order["host"])
    connection.sock = wire
    return connection


def ask(order: Order, connection: HTTPConnection, path: str, upgrade: dict[str, str]) -> None:
    """Wait for the answer that a visitor with a login gets."""
    login = {"Host": order["host"], "Authorization": order["login"]}
    connection.request("GET", path, headers={**login, **upgrade})
    answer = connection.getresponse()
    wanted = 101 if upgrade else 200
    if answer.status != wanted:
        raise SystemExit(f"{path} was answered {answer.status} instead of {wanted}")
    if not upgrade:
        answer.read()


def seconds_of(act: Callable[[], None]) -> float:
    """Return how long something takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def requests(order: Order, count: int) -> dict[str, list[float]]:
    """Return the seconds of small requests over one connection each way."""
    ways = {"direct": opened(order, DIRECT), "caddy": opened(order, CADDY)}
    for connection in ways.values():
        ask(order, connection, "/health", {})
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(count):
        for way, connection in ways.items():
            found[way].append(seconds_of(lambda c=connection: ask(order, c, "/health", {})))  # type: ignore[misc]
    return found


def websockets(order: Order, count: int) -> dict[str, list[float]]:
    """Return the seconds from nothing to an open websocket, with a new connection each."""

    def connect(place: tuple[str, int]) -> None:
        connection = opened(order, place)
        ask(order, connection, "/eventstream", UPGRADE)
        connection.close()

    found: dict[str, list[float]] = {"direct": [], "caddy": []}
    for _ in range(count):
        found["direct"].append(seconds_of(lambda: connect(DIRECT)))
        found["caddy"].append(seconds_of(lambda: connect(CADDY)))
    return found


if __name__ == "__main__":
    told = json.load(sys.stdin)
    print(json.dumps({"requests": requests(told, 200), "websockets": websockets(told, 50)}))
