"""Times requests and websockets through Caddy and directly, in turns, in a container.

Run as `python -c <this file>` in the notebook's container, which reaches both. The request, one
JSON object, comes on standard input; the seconds go to standard output. Standard library only.
"""

import json
import socket
import ssl
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection

Request = dict[str, str]
CADDY, DIRECT = ("dask_caddy", 443), ("dask_scheduler", 8787)
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "ZGFzay1zd2FybS1iZW5jaA==",
}
SECONDS = 10


def connect_to(request: Request, place: tuple[str, int]) -> HTTPConnection:
    """Return a new connection, over TLS to Caddy."""
    connection = HTTPConnection(*place, timeout=SECONDS)
    wire = socket.create_connection(place, timeout=SECONDS)
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if place == CADDY:
        # Certificates for localhost are signed by an unknown authority.
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        wire = tls.wrap_socket(wire, server_hostname=request["host"])
    connection.sock = wire
    return connection


def ask(request: Request, connection: HTTPConnection, path: str, upgrade: dict[str, str]) -> None:
    """Send a request with a login and check the status of the answer."""
    login = {"Host": request["host"], "Authorization": request["login"]}
    connection.request("GET", path, headers={**login, **upgrade})
    answer = connection.getresponse()
    expected = 101 if upgrade else 200
    if answer.status != expected:
        raise SystemExit(f"{path}: status {answer.status}, expected {expected}")
    if not upgrade:
        answer.read()


def seconds_of(act: Callable[[], None]) -> float:
    """Return the seconds that an action takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def requests(request: Request, count: int) -> dict[str, list[float]]:
    """Return the seconds of small requests, with one connection for each way."""
    ways = {"direct": connect_to(request, DIRECT), "caddy": connect_to(request, CADDY)}
    for connection in ways.values():
        ask(request, connection, "/health", {})
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(count):
        for way, connection in ways.items():
            seconds[way].append(seconds_of(lambda c=connection: ask(request, c, "/health", {})))  # type: ignore[misc]
    return seconds


def websockets(request: Request, count: int) -> dict[str, list[float]]:
    """Return the seconds until a websocket is open, with a new connection for each."""

    def connect(place: tuple[str, int]) -> None:
        connection = connect_to(request, place)
        ask(request, connection, "/eventstream", UPGRADE)
        connection.close()

    seconds: dict[str, list[float]] = {"direct": [], "caddy": []}
    for _ in range(count):
        seconds["direct"].append(seconds_of(lambda: connect(DIRECT)))
        seconds["caddy"].append(seconds_of(lambda: connect(CADDY)))
    return seconds


if __name__ == "__main__":
    spec = json.load(sys.stdin)
    print(json.dumps({"requests": requests(spec, 200), "websockets": websockets(spec, 50)}))
