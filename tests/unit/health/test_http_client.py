"""The client of the ingress, with a server that does not answer."""

import socket
import time

import pytest

from health import http_client
from health.http_client import HttpClient


@pytest.fixture(autouse=True)
def default_timeout():
    """End what would wait for ever after 5 s."""
    socket.setdefaulttimeout(5)
    yield
    socket.setdefaulttimeout(None)


def test_the_wait_for_an_answer_has_an_end(monkeypatch):
    """It accepts the connection; the proof tries again until its deadline."""
    monkeypatch.setattr(http_client, "ANSWER_SECONDS", 0.2)
    start = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = HttpClient(["127.0.0.1"], port=silent.getsockname()[1], verified=False)
        with pytest.raises(TimeoutError):
            client.get("notebook.localhost", "/", {})
    assert time.monotonic() - start < 3
