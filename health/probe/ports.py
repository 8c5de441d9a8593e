"""Ports that must accept connections, and ports that must refuse them."""

import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from urllib.parse import urlsplit

from . import UnprovenError
from .deadline import PAUSE_SECONDS

CONNECT_SECONDS = 2
OLD_SECONDS = 20  # for the end of a task that this deployment replaces


def wait_for_port(address: str) -> None:
    """Wait until `tls://host:port` accepts a connection."""
    url = urlsplit(address)
    while True:
        with suppress(OSError):
            connect(url.hostname or "", url.port or 0)
            return
        time.sleep(PAUSE_SECONDS)


def prove_closed(ports: Iterable[str]) -> None:
    """Prove that each `host:port` refuses connections; raises `UnprovenError` if not."""
    end = time.monotonic() + OLD_SECONDS
    for port in ports:
        while answer := attempt(port):
            if time.monotonic() > end:
                raise UnprovenError(
                    f"expected {port} to refuse connections on its network: {answer}"
                )
            time.sleep(PAUSE_SECONDS)


def attempt(port: str) -> str:
    """Return how `host:port` answers, empty if it refuses the connection."""
    host, _, number = port.rpartition(":")
    try:
        connect(host, int(number))
    except ConnectionRefusedError:
        return ""
    except OSError as error:
        return f"it cannot be tried ({error})"
    return "it accepts them"


def connect(host: str, port: int) -> None:
    """Open a connection and close it."""
    socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
