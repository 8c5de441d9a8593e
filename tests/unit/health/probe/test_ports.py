"""Ports that must refuse connections, with real sockets."""

import socket

import pytest

from health.probe import UnprovenError, ports


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
