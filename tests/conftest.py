"""Helpers and fixtures of several suites."""

import asyncio
import json
import socket
import threading
import time
from contextlib import closing, contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, settings

from lab.caddy import find_caddy

# A slow machine must not fail an example, and mutmut runs all tests several times in a process.
settings.register_profile(
    "any-machine", deadline=None, suppress_health_check=[HealthCheck.differing_executors]
)
settings.load_profile("any-machine")

ROOT = Path(__file__).parent.parent
given_ports = set()


def run_async(coroutine):
    """Return the result of a coroutine.

    Not asyncio.run: it leaves this thread without an event loop, and Pulumi's SDK expects one.
    """
    with closing(asyncio.new_event_loop()) as loop:
        return loop.run_until_complete(coroutine)


def wait_for(what, condition, seconds=60, pause=0.1):
    """Return the first true value of `condition`; fail with `what` after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"no {what} after {seconds} s"
        time.sleep(pause)
    return value


@contextmanager
def serving(handler, address="127.0.0.1"):
    """Yield a server on a free port that answers by a handler and prints nothing."""
    quiet = type("Quiet", (handler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer((address, 0), quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def free_port():
    """Return a port of the loopback that no program listens on, another port at each call."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        if port not in given_ports:
            given_ports.add(port)
            return port


@pytest.fixture(scope="session")
def project():
    """Return `Pulumi.yaml` as plain data."""
    return yaml.safe_load((ROOT / "Pulumi.yaml").read_text())


@pytest.fixture(scope="session")
def defaults(project):
    """Return the default of every config key as text, as the engine passes it to a program."""
    values = {key: entry["default"] for key, entry in project["config"].items()}
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items()}


@pytest.fixture(scope="session")
def real_caddy():
    """Return the path of a current Caddy, fetched if the machine has none."""
    return find_caddy()
