"""The scripts of the health checks, run by real shells."""

import os
import subprocess
from http.server import BaseHTTPRequestHandler

import pytest

from components.health_check import HealthCheck
from tests.conftest import serving

# The same script, in a folder of the test and without its long waits.
FASTER = {"SECONDS < 20": "SECONDS < 1", "-lt 80": "-lt 3", "sleep 15": "sleep 0"}
# Replaces wget in images without bash; its exit status is that of a server's answer.
WGET = '#!/bin/sh\nfor url; do :; done\n[ "$(cat "$0.status")" = "200 ${url#http://}" ]\n'


class Server(BaseHTTPRequestHandler):
    """Answers `GET /health` with `status`."""

    status = 200

    def do_GET(self):
        self.send_response(self.status if self.path == "/health" else 404)
        self.end_headers()


@pytest.fixture(params=["bash", "wget"])
def check(request, tmp_path, monkeypatch):
    """Return a function that runs the check of a program that answers with a status."""
    monkeypatch.setattr(Server, "status", 200)
    with serving(Server) as server:
        made = HealthCheck(
            port=server.server_port, path="/health", by_wget=request.param == "wget"
        )
        shell, option, script, *arguments = made.command
        for text, short in {**FASTER, "/tmp/.healthy": str(tmp_path / "healthy")}.items():
            script = script.replace(text, short)
        (tmp_path / "wget").write_text(WGET)
        (tmp_path / "wget").chmod(0o755)
        path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

        def run(status):
            monkeypatch.setattr(Server, "status", status)
            answer = f"{status} 127.0.0.1:{server.server_port}/health"
            (tmp_path / "wget.status").write_text(answer)
            command = [shell, option, script, *arguments]
            return subprocess.run(command, env=os.environ | path, check=False).returncode

        yield run
        server.shutdown()


def test_a_program_that_answers_is_healthy(check):
    """The first check waits for it, and the later ones ask again."""
    assert [0, 0, 0] == [check(200) for _ in range(3)]


def test_a_program_that_never_answered_is_not_healthy(check):
    """It must not get its name on the network."""
    assert 0 != check(500)


def test_a_program_that_stops_answering_is_not_healthy(check):
    """Swarm replaces a task that hangs after a good start."""
    assert 0 == check(200)
    assert 0 != check(500)
    assert 0 == check(200)
