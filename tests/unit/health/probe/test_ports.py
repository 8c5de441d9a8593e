"""Ports and URLs that must refuse their clients, with real sockets."""

import socket
from http.server import BaseHTTPRequestHandler

import pytest

from health.probe import UnprovenError, ports
from tests.conftest import serving


@pytest.fixture
def server():
    """Return a listening socket and its `host:port`."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening, f"127.0.0.1:{listening.getsockname()[1]}"


def test_a_closed_port_is_proven(server):
    """Its host refuses the connection."""
    listening, port = server
    listening.close()
    ports.prove_closed([port])


def test_an_open_port_is_found(server, monkeypatch):
    """The message has the port, and what it does."""
    monkeypatch.setattr(ports, "OLD_SECONDS", 0.1)
    with pytest.raises(UnprovenError, match=f"expected {server[1]} to refuse .* it accepts them"):
        ports.prove_closed([server[1]])


def test_a_task_that_is_replaced_may_still_listen(server, monkeypatch):
    """It has some time to end."""
    listening, port = server
    monkeypatch.setattr(ports.time, "sleep", lambda _: listening.close())
    ports.prove_closed([port])


def test_a_port_that_cannot_be_tried_proves_nothing(monkeypatch):
    """A misspelled name is not closed."""
    monkeypatch.setattr(ports, "OLD_SECONDS", 0.1)
    with pytest.raises(UnprovenError, match="it cannot be tried"):
        ports.prove_closed(["absent.invalid:8786"])


class Keyed(BaseHTTPRequestHandler):
    """Answers in turn with these statuses, then with the last of them; `asked` has the keys."""

    def do_GET(self):
        self.server.asked.append((self.path, self.headers["Proxy-Authorization"]))
        statuses = self.server.statuses
        self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
        self.end_headers()


@pytest.fixture
def keyed():
    """Return a server with a URL, which refuses every request by default."""
    with serving(Keyed) as server:
        server.asked, server.statuses = [], [403]
        server.url = f"http://127.0.0.1:{server.server_port}/api"
        yield server


def test_a_url_that_needs_a_key_is_proven(keyed):
    """Without a key and with a forged key."""
    ports.prove_keyed([keyed.url])
    assert [("/api", None), ("/api", "forged")] == keyed.asked


@pytest.mark.parametrize(
    ("statuses", "who"),
    [
        ([200], "a request without a key"),
        ([404], "a request without a key"),
        ([403, 200], "a forged ingress key"),
    ],
)
def test_an_open_url_is_found(keyed, monkeypatch, statuses, who):
    """The message has the URL, the request and the answer; a guard answers every path by 403."""
    monkeypatch.setattr(ports, "OLD_SECONDS", 0.1)
    keyed.statuses = statuses
    with pytest.raises(
        UnprovenError, match=rf"{keyed.url} to refuse {who} \(403\), found {statuses[-1]}"
    ):
        ports.prove_keyed([keyed.url])


def test_a_server_that_is_replaced_may_still_answer(keyed, monkeypatch):
    """Its task has some time to end."""
    monkeypatch.setattr(ports, "PAUSE_SECONDS", 0)
    keyed.statuses = [200, 403]
    ports.prove_keyed([keyed.url])
