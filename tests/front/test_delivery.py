"""Delivery to a real Caddy that has sites of its own: good, bad, changed and removed."""

import json
import os
import subprocess
import sys
import time
from http.client import HTTPConnection

import pytest

from caddy.caddyfile import CaddyfileValues, fragments, join
from tests.conftest import ROOT
from tests.front.conftest import free_port

MAIN = """{
	admin localhost:%d
	http_port %d
	https_port %d
	skip_install_trust
}

import sites/*.caddy

http://other.localhost {
	respond "other's content"
}
"""
TEXT = CaddyfileValues(
    names={"notebook": "notebook.localhost", "dashboard": "dashboard.localhost"},
    login="none",
    certificates="internal",
    key="none",
)


class Existing:
    """A Caddy that was there before, with a site of its own and a directory that it imports."""

    def __init__(self, program, folder):
        self.folder, self.http = folder, free_port()
        self.sites = folder / "sites"
        self.sites.mkdir()
        (folder / "bin").mkdir()
        (folder / "bin" / "caddy").symlink_to(program)
        self.main = folder / "Caddyfile"
        self.main.write_text(MAIN % (free_port(), self.http, free_port()))
        self.env = os.environ | {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(folder),
            "XDG_DATA_HOME": str(folder / "data"),
        }
        self.process = subprocess.Popen(
            [program, "run", "--config", self.main],
            env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 20
        while self.ask("other.localhost")[1] != "other's content":
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def ask(self, name):
        """Return status and text of what a name answers on plain HTTP; nothing if nobody does."""
        connection = HTTPConnection("127.0.0.1", self.http, timeout=5)
        try:
            connection.request("GET", "/", headers={"Host": name})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except ConnectionError:
            return 0, ""
        finally:
            connection.close()

    def deliver(self, action, text="", **changed):
        """Return the exit status of a delivery and what it said."""
        request = {
            "host": "",
            "directory": str(self.sites),
            "main_file": str(self.main),
            "service": "",
            "text": text,
        }
        done = subprocess.run(
            [sys.executable, "-m", "caddy.install", action], input=json.dumps(request | changed),
            cwd=ROOT, env=self.env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def files(self):
        """Return what is in the imported directory, hidden files included."""
        return sorted(each.name for each in self.sites.iterdir())


@pytest.fixture
def existing(real_caddy, tmp_path):
    """Return a running Caddy of somebody else's."""
    found = Existing(real_caddy, tmp_path)
    yield found
    found.process.terminate()
    found.process.wait(20)


def serves(existing):
    """Return whether the names are served: plain HTTP leads to HTTPS, an unknown name nowhere."""
    return [existing.ask(name)[0] for name in ("notebook.localhost", "dashboard.localhost")]


GOOD = join(fragments(TEXT))


def test_a_good_file_is_served_beside_the_others(existing):
    """Both names are there, the other site is as it was, and nothing else lies about."""
    assert [200, 200] == serves(existing)
    status, said = existing.deliver("put", GOOD)
    assert 0 == status, said
    assert [308, 308] == serves(existing)
    assert "other's content" == existing.ask("other.localhost")[1]
    assert ["dask-swarm.caddy"] == existing.files()
    assert GOOD == (existing.sites / "dask-swarm.caddy").read_text()


@pytest.mark.parametrize("before", [None, GOOD], ids=["first", "later"])
def test_a_bad_file_leaves_the_old_one_serving(existing, before):
    """The message is Caddy's own; what was served before still is, now and after a reload."""
    if before:
        existing.deliver("put", before)
    served = serves(existing)
    status, said = existing.deliver("put", "notebook.localhost {\n\tno_such_directive\n}\n")
    assert 1 == status
    assert "unrecognized directive: no_such_directive" in said
    assert "still serves the old configuration" in said
    assert served == serves(existing)
    assert "other's content" == existing.ask("other.localhost")[1]
    assert (["dask-swarm.caddy"] if before else []) == existing.files()
    assert before is None or before == (existing.sites / "dask-swarm.caddy").read_text()


def test_a_name_that_another_site_has_is_refused(existing):
    """Nobody's site is taken over."""
    taken = GOOD.replace("notebook.localhost {", "http://other.localhost {")
    status, said = existing.deliver("put", taken)
    assert 1 == status
    assert "ambiguous site definition" in said
    assert "other's content" == existing.ask("other.localhost")[1]


def test_a_caddy_that_is_down_is_said_to_be(existing):
    """The file validates, but nobody is there to serve it: the deployment fails, nothing stays."""
    existing.process.terminate()
    existing.process.wait(20)
    status, said = existing.deliver("put", GOOD)
    assert 1 == status
    assert "does not reload" in said
    assert "connection refused" in said
    assert [] == existing.files()


def test_removed_it_is_gone_and_twice_is_no_error(existing):
    """`destroy` leaves the other sites serving, and nothing of this stack."""
    existing.deliver("put", GOOD)
    for _ in range(2):
        status, said = existing.deliver("remove")
        assert 0 == status, said
    assert [] == existing.files()
    assert [200, 200] == serves(existing)
    assert "other's content" == existing.ask("other.localhost")[1]


def test_a_directory_that_is_not_there_is_named(existing):
    """The message says what is missing and what it is for."""
    status, said = existing.deliver("put", GOOD, directory="/nowhere/sites")
    assert 1 == status
    assert "the directory /nowhere/sites does not exist: Caddy's main file must import it" in said


def test_another_host_is_reached_by_ssh_with_a_known_key_only(existing):
    """No question is asked and no unknown key accepted; the text travels on standard input."""
    ssh = existing.folder / "bin" / "ssh"
    ssh.write_text(
        f'#!/bin/sh\necho "$@" | head -n 1 >{existing.folder}/seen\n'
        'for last; do :; done\nexec sh -c "$last"\n'
    )
    ssh.chmod(0o755)
    status, said = existing.deliver("put", GOOD, host="ssh://deploy@edge:2222")
    assert 0 == status, said
    seen = (existing.folder / "seen").read_text()
    assert seen.startswith("-Fswarm/ssh_config -T -- ssh://deploy@edge:2222 ")
    assert [308, 308] == serves(existing)
    assert "ssh://deploy@edge:2222" in said


def test_in_a_container_it_is_asked_for_there(existing):
    """Where Caddy runs in Docker, its own program in its container validates and reloads."""
    docker = existing.folder / "bin" / "docker"
    docker.write_text(
        '#!/bin/sh\ncase "$1" in\n'
        'ps) echo "$@" | grep -q "service.name=edge_caddy" && echo c0ffee ;;\n'
        'exec) [ "$2" = c0ffee ] && shift 2 && exec "$@" ;; esac\n'
    )
    docker.chmod(0o755)
    status, said = existing.deliver("put", GOOD, service="edge_caddy")
    assert 0 == status, said
    assert [308, 308] == serves(existing)
    status, said = existing.deliver("put", GOOD, service="other")
    assert 1 == status
    assert "no container of other runs on this host" in said


def test_a_request_that_is_not_understood_is_not_repeated(existing):
    """There may be a hash in it."""
    status, said = existing.deliver("put", unknown="s3cret")
    assert 1 == status
    assert "not valid" in said
    assert "s3cret" not in said
