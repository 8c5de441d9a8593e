"""The wait for the probe's messages."""

import json
import struct
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from types import SimpleNamespace

import pytest

from health import log_reader
from health.probe.messages import MARK
from health.timing import Timing
from tests.conftest import ROOT, serving

# The launcher has a timer too, which shows whether its engine still runs.
WAITS = """
import signal, time
from health.log_reader import LogReader

signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
end = time.monotonic() + 2
while time.monotonic() < end:
    LogReader().wait(0.001)
signal.setitimer(signal.ITIMER_REAL, 0)
"""

FOLLOWS = """
import time
from health.log_reader import LogReader

reader, end = LogReader(), time.monotonic() + 20
reader.follow("dask_health")
while not reader.outcome and time.monotonic() < end:
    reader.wait(0.1)
print(reader.progress, reader.outcome)
"""


def test_a_signal_at_the_time_limit_does_not_make_the_wait_endless():
    """Waits end in time, whenever a timer's signal arrives."""
    command = [sys.executable, "-c", WAITS]
    assert 0 == subprocess.run(command, cwd=ROOT, timeout=30, check=False).returncode


def test_a_log_that_ends_at_once_is_not_asked_for_without_a_pause(monkeypatch):
    """A manager that restarts would get thousands of requests."""
    asked, again = [], threading.Event()

    def follow(_):
        asked.append(time.monotonic())
        if len(asked) == 2:
            again.set()
            threading.Event().wait()  # like a log without an end
        return iter(())

    monkeypatch.setattr(log_reader, "TIMING", Timing(follow_pause=0.2))
    monkeypatch.setattr(log_reader, "Manager", lambda: SimpleNamespace(follow=follow))
    log_reader.LogReader().follow("s1")
    assert again.wait(10)
    assert asked[1] - asked[0] >= 0.2


class BreakingManager(BaseHTTPRequestHandler):
    """A stand-in for a manager that loses power while it sends the first log."""

    protocol_version = "HTTP/1.1"
    messages = ({"progress": "moving data between workers"}, {"proof": {}})

    def do_GET(self):
        self.close_connection = True
        self.send_response(200)
        if self.path == "/version":
            self.send_header("Content-Length", "22")
            self.end_headers()
            self.wfile.write(b'{"ApiVersion": "1.41"}')
            return
        breaks, self.server.breaks = self.server.breaks, False
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for message in self.messages[:1] if breaks else self.messages:
            self.send(f"{MARK}{json.dumps(message)}\n".encode())
        if not breaks:
            self.wfile.write(b"0\r\n\r\n")

    def send(self, line):
        """Send a line in a frame of the engine, in a chunk."""
        frame = struct.pack(">BxxxL", 1, len(line)) + line
        self.wfile.write(f"{len(frame):x}\r\n".encode() + frame + b"\r\n")


@pytest.fixture
def manager(monkeypatch):
    """Start the manager, and have `DOCKER_HOST` name it."""
    with serving(BreakingManager) as server:
        server.breaks = True
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.server_address[1]}")
        yield server


def test_a_log_that_breaks_off_is_read_again(manager):
    """Otherwise a proof that succeeds while the manager restarts would count as failed."""
    done = subprocess.run(
        [sys.executable, "-c", FOLLOWS],
        cwd=ROOT,
        timeout=30,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ("moving data between workers {'proof': {}}\n", "") == (done.stdout, done.stderr)
    assert not manager.breaks
