"""The reloader of a managed Caddy with a real Caddy: first start, restart and refusal."""

import os
import socket
import subprocess
import time
import urllib.request
from urllib.error import URLError

import pytest

from caddy import caddyfile
from tests.conftest import free_port, wait_for

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
    """A folder that Caddy and the reloader share, like a volume."""

    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        self.http, self.port = free_port(), free_port()
        self.socket = folder / "admin.sock"
        self.local = {"=/tmp/": f"={folder}/own-", "/var/tmp/admin.sock": str(self.socket)}
        self.write("boot.caddy", caddyfile.boot())
        self.write("reloader.sh", caddyfile.reloader())
        self.environment = os.environ | {
            "HOME": str(folder),
            "PATH": f"{folder}:{os.environ['PATH']}",
        }
        (folder / "caddy").symlink_to(program)
        self.running = []

    def write(self, name, text):
        """Write a file with paths of this folder instead of the container's."""
        for original, replacement in self.local.items():
            text = text.replace(original, replacement)
        (self.folder / name).write_text(text)

    def serve(self, text, port=None):
        """Write the Caddyfile that the reloader loads."""
        port = port or self.port
        values = {"socket": self.socket, "http": self.http, "port": port, "text": text}
        (self.folder / "Caddyfile").write_text(SITES.format(**values))

    def caddy(self):
        """Start Caddy like its service."""
        return self.start("caddy", "run", "--config", "boot.caddy", "--adapter", "caddyfile")

    def listening_caddy(self):
        """Start Caddy and wait for its socket."""
        process = self.caddy()
        wait_for("socket", self.socket.exists, SECONDS)
        return process

    def reloader(self):
        """Start the reloader in a new container."""
        for name in ("tried", "settled", "settled-seen"):
            (self.folder / f"own-{name}").unlink(missing_ok=True)
        return self.start("sh", "reloader.sh")

    def healthy(self):
        """Return the exit code of the health check of a new reloader."""
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
        """Return the site's text, or no text without an answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}", timeout=5) as answer:
                return answer.read().decode()
        except URLError:
            return ""

    def wait_for(self, text):
        """Wait until the site has this text."""
        wait_for(f"answer {text!r}", lambda: self.answer() == text, SECONDS)

    def end(self, process, signal="terminate"):
        getattr(process, signal)()
        process.communicate(timeout=SECONDS)
        self.running.remove(process)


@pytest.fixture
def node(real_caddy, tmp_path):
    """Return a folder for Caddy and the reloader, and end both afterwards."""
    node = Node(real_caddy, tmp_path)
    try:
        yield node
    finally:
        for process in list(node.running):
            node.end(process)


def test_the_reloader_waits_for_caddy(node):
    """The sites are loaded once Caddy runs, and then the reloader is healthy."""
    node.serve("one")
    node.reloader()
    time.sleep(0.5)
    node.caddy()
    node.wait_for("one")
    assert 0 == node.healthy()


def test_the_files_are_loaded_once(node):
    """Each load costs the node a process, and Caddy a new configuration."""
    node.serve("one")
    node.caddy()
    reloader = node.reloader()
    node.wait_for("one")
    time.sleep(3.5)
    reloader.terminate()
    output, _ = reloader.communicate(timeout=SECONDS)
    node.running.remove(reloader)
    # Once more if Caddy's socket and the mark of the first load are of the same moment.
    assert output.count("Caddy has loaded the Caddyfile") <= 2


@pytest.mark.parametrize("signal", ["terminate", "kill"])
def test_a_restarted_caddy_gets_the_files_again(node, signal):
    """It does so even if the old Caddy left its socket behind."""
    node.serve("one")
    caddy = node.caddy()
    node.reloader()
    node.wait_for("one")
    node.end(caddy, signal)
    assert "" == node.answer()
    node.caddy()
    node.wait_for("one")


def test_changed_files_are_live_when_the_new_reloader_is_healthy(node):
    """Once Swarm calls the reloader running, clients get the new sites."""
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
    """The reloader exits with 78 and Caddy's reason; the old sites are still served."""
    node.serve("one")
    caddy = node.caddy()
    old = node.reloader()
    node.wait_for("one")
    node.end(old)
    with socket.create_server(("127.0.0.1", 0)) as used:
        node.serve("two", used.getsockname()[1])
        refused = node.reloader()
        output, _ = refused.communicate(timeout=SECONDS)
        node.running.remove(refused)
    assert 78 == refused.returncode
    assert output.startswith("Caddy refuses the Caddyfile: http app module: start: listening on")
    assert output.endswith("address already in use\n")
    assert not (node.folder / "own-settled").exists()
    assert ("one", None) == (node.answer(), caddy.poll())


def test_a_caddy_that_lets_forged_users_through_gets_no_login_by_authelia(node):
    """The reloader exits with 78 and names the hole, before it loads anything."""
    (node.folder / "caddy").unlink()
    (node.folder / "caddy").write_text("#!/bin/sh\necho v2.11.1 h1:x=\n")
    (node.folder / "caddy").chmod(0o755)
    node.write("login.caddy", "copy_headers Remote-User")
    refused = node.reloader()
    output, _ = refused.communicate(timeout=SECONDS)
    node.running.remove(refused)
    assert 78 == refused.returncode
    assert output.startswith("Caddy v2.11.1 lets a client's Remote-User through (CVE-2026-30851)")


def test_an_invalid_file_is_refused_with_its_line(node):
    """The message of Caddy's adapter has the line."""
    (node.folder / "Caddyfile").write_text("localhost {\n\tno-such-directive\n}\n")
    node.caddy()
    refused = node.reloader()
    output, _ = refused.communicate(timeout=SECONDS)
    node.running.remove(refused)
    assert 78 == refused.returncode
    assert "Caddyfile:2: unrecognized directive: no-such-directive" in output


def test_a_node_that_caddy_has_left_has_a_healthy_reloader_soon(node):
    """The old Caddy left a socket; the reloader waits a while for a slow Caddy."""
    node.serve("one")
    node.end(node.listening_caddy(), "kill")
    node.reloader()
    time.sleep(1)
    assert not (node.folder / "own-settled").exists()
    assert 0 == node.healthy()


def test_a_node_without_caddy_has_a_healthy_reloader(node):
    """Caddy may run on another of the allowed nodes, where its own health check counts."""
    node.serve("one")
    node.reloader()
    assert 0 == node.healthy()


def test_a_reloader_that_has_loaded_nothing_is_not_healthy(node):
    """Swarm must not call an update done before the new sites are served."""
    script = (node.folder / "reloader.sh").read_text()
    assert "-lt 80" in script
    (node.folder / "reloader.sh").write_text(script.replace("-lt 80", "-lt 2"))
    assert 0 != node.healthy()
    assert not (node.folder / "own-settled-seen").exists()
