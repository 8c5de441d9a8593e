"""Ports that must accept connections, and ports and URLs that must refuse them."""

import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from urllib.parse import urlsplit

from . import UnprovenError
from .deadline import PAUSE_SECONDS
from .notebook import FORGED, wait_for_status

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


def prove_keyed(urls: Iterable[str]) -> None:
    """Prove that each URL refuses requests without the ingress's key, or with a forged key.

    Raises `UnprovenError` if not.
    """
    end = time.monotonic() + OLD_SECONDS
    for url in urls:
        for who, headers in (("a request without a key", {}), ("a forged ingress key", FORGED)):
            while (status := wait_for_status(url, headers)) != 403:
                if time.monotonic() > end:
                    raise UnprovenError(f"expected {url} to refuse {who} (403), found {status}")
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
