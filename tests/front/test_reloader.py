"""The reloader of a managed Caddy, with a real Caddy: hands over, again, and is refused."""

import os
import socket
import subprocess
import time
import urllib.request
from urllib.error import URLError

import pytest

from caddy import caddyfile
from tests.front.conftest import free_port

SECONDS = 20
SITES = """{{
	admin unix/{socket}
	persist_config off
	http_port {http}
}}

http://127.0.0.1:{port} {{
	respond "{text}"
}}
"""


class Node:
    """A folder in which Caddy and the reloader meet, as on a volume of both."""

    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        self.http, self.port = free_port(), free_port()
        self.socket = folder / "admin.sock"
        self.here = {"=/tmp/": f"={folder}/own-", "/var/tmp/admin.sock": str(self.socket)}
        self.write("boot.caddy", caddyfile.boot())
        self.write("reloader.sh", caddyfile.reloader())
        self.environment = os.environ | {
            "HOME": str(folder),
            "PATH": f"{folder}:{os.environ['PATH']}",
        }
        (folder / "caddy").symlink_to(program)
        self.running = []

    def write(self, name, text):
        """Write a file with this folder in the place of the container's."""
        for there, instead in self.here.items():
            text = text.replace(there, instead)
        (self.folder / name).write_text(text)

    def serve(self, text, port=None):
        """Write what is to be handed over."""
        port = port or self.port
        values = {"socket": self.socket, "http": self.http, "port": port, "text": text}
        (self.folder / "Caddyfile").write_text(SITES.format(**values))

    def caddy(self):
        """Start Caddy as its service does."""
        return self.start("caddy", "run", "--config", "boot.caddy", "--adapter", "caddyfile")

    def caddy_that_listens(self):
        """Start Caddy and wait for its socket."""
        process, deadline = self.caddy(), time.monotonic() + SECONDS
        while not self.socket.exists():
            assert time.monotonic() < deadline, "no socket"
            time.sleep(0.05)
        return process

    def reloader(self):
        """Start the reloader anew, in a container of its own."""
        for name in ("tried", "settled", "settled-seen"):
            (self.folder / f"own-{name}").unlink(missing_ok=True)
        return self.start("sh", "reloader.sh")

    def healthy(self):
        """Return the exit code of the reloader's health check, where it is new."""
        done = subprocess.run(["sh", "reloader.sh", "healthy"], cwd=self.folder, check=False)
        return done.returncode

    def start(self, *command):
        process = subprocess.Popen(
            command, cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.running.append(process)
        return process

    def answer(self):
        """Return what the site says, or nothing where nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}", timeout=5) as answer:
                return answer.read().decode()
        except URLError:
            return ""

    def wait_for(self, text):
        """Wait until the site says it."""
        deadline = time.monotonic() + SECONDS
        while (found := self.answer()) != text:
            assert time.monotonic() < deadline, f"{found!r} instead of {text!r}"
            time.sleep(0.05)

    def end(self, process, signal="terminate"):
        getattr(process, signal)()
        process.communicate(timeout=SECONDS)
        self.running.remove(process)


@pytest.fixture
def node(real_caddy, tmp_path):
    """Return a place for Caddy and the reloader, both of which are ended afterwards."""
    node = Node(real_caddy, tmp_path)
    try:
        yield node
    finally:
        for process in list(node.running):
            node.end(process)


def test_whoever_comes_first_waits_for_the_other(node):
    """Handed over as soon as both are there, and then the reloader is healthy."""
    node.serve("one")
    node.reloader()
    time.sleep(0.5)
    node.caddy()
    node.wait_for("one")
    assert 0 == node.healthy()


@pytest.mark.parametrize("signal", ["terminate", "kill"])
def test_a_caddy_that_starts_anew_is_handed_the_files_again(node, signal):
    """Also where the last one left its socket behind."""
    node.serve("one")
    caddy = node.caddy()
    node.reloader()
    node.wait_for("one")
    node.end(caddy, signal)
    assert "" == node.answer()
    node.caddy()
    node.wait_for("one")


def test_changed_files_are_live_when_the_new_reloader_is_healthy(node):
    """What Swarm calls running is what visitors get."""
    node.serve("one")
    node.caddy()
    old = node.reloader()
    node.wait_for("one")
    node.end(old)
    node.serve("two")
    node.reloader()
    assert 0 == node.healthy()
    assert "two" == node.answer()


def test_what_caddy_refuses_ends_the_reloader_and_changes_nothing(node):
    """With 78 and Caddy's own reason, before it is called healthy; the old goes on serving."""
    node.serve("one")
    caddy = node.caddy()
    old = node.reloader()
    node.wait_for("one")
    node.end(old)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        node.serve("two", taken.getsockname()[1])
        refused = node.reloader()
        said, _ = refused.communicate(timeout=SECONDS)
        node.running.remove(refused)
    assert 78 == refused.returncode
    assert said.startswith("Caddy refuses the Caddyfile: http app module: start: listening on")
    assert said.endswith("address already in use\n")
    assert not (node.folder / "own-settled").exists()
    assert ("one", None) == (node.answer(), caddy.poll())


def test_a_file_that_is_none_is_refused_with_its_line(node):
    """Caddy's adapter says where."""
    (node.folder / "Caddyfile").write_text("localhost {\n\tno-such-directive\n}\n")
    node.caddy()
    refused = node.reloader()
    said, _ = refused.communicate(timeout=SECONDS)
    node.running.remove(refused)
    assert 78 == refused.returncode
    assert "Caddyfile:2: unrecognized directive: no-such-directive" in said


def test_a_node_that_caddy_has_left_has_a_healthy_reloader_soon(node):
    """What is left of it is a socket; a Caddy that is merely slow is waited for."""
    node.serve("one")
    node.end(node.caddy_that_listens(), "kill")
    node.reloader()
    time.sleep(1)
    assert not (node.folder / "own-settled").exists()
    assert 0 == node.healthy()


def test_a_node_without_caddy_has_a_healthy_reloader(node):
    """Caddy may be on another of the nodes that fit; where it is, it has a health check too."""
    node.serve("one")
    node.reloader()
    assert 0 == node.healthy()
