"""Sites are installed in a real Caddy that has other sites: good, bad, changed and removed."""

import json
import os
import subprocess
import sys
from http.client import HTTPConnection

import pytest

from caddy.caddyfile import CaddyfileValues, fragments, join
from tests.conftest import ROOT, free_port, wait_for

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
    cluster="dask",
    names={"notebook": "notebook.localhost", "dashboard": "dashboard.localhost"},
    login="none",
    certificates="internal",
    keys={"notebook": "none"},
)


class Existing:
    """An existing Caddy with another site, and a directory that it imports."""

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
        wait_for("answer", lambda: self.ask("other.localhost")[1] == "other's content", 20)

    def ask(self, name):
        """Return status and text of the answer on plain HTTP; 0 and no text without an answer."""
        connection = HTTPConnection("127.0.0.1", self.http, timeout=5)
        try:
            connection.request("GET", "/", headers={"Host": name})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except ConnectionError:
            return 0, ""
        finally:
            connection.close()

    def install(self, action, text="", **changed):
        """Install or remove the sites; return the exit status and the output."""
        request = {
            "host": "",
            "directory": str(self.sites),
            "main_file": str(self.main),
            "service": "",
            "text": text,
        }
        done = subprocess.run(
            [sys.executable, "-m", "caddy.install", action], input=json.dumps(request | changed),
            cwd=ROOT, env=self.env, capture_output=True, text=True, check=False, umask=0o077,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def files(self):
        """Return the names in the imported directory, hidden files included."""
        return sorted(path.name for path in self.sites.iterdir())


@pytest.fixture
def existing(real_caddy, tmp_path):
    """Return a running Caddy that does not belong to the stack."""
    caddy = Existing(real_caddy, tmp_path)
    yield caddy
    caddy.process.terminate()
    caddy.process.wait(20)


def statuses(existing):
    """Return the status for both names on plain HTTP: 308 to HTTPS, or 200 without a site."""
    return [existing.ask(name)[0] for name in ("notebook.localhost", "dashboard.localhost")]


GOOD = join(fragments(TEXT))


def test_a_good_file_is_served_beside_the_others(existing):
    """Both names are served, the other site is unchanged, and no other file is left."""
    assert [200, 200] == statuses(existing)
    status, output = existing.install("put", GOOD)
    assert 0 == status, output
    assert [308, 308] == statuses(existing)
    assert "other's content" == existing.ask("other.localhost")[1]
    assert ["dask-swarm.caddy"] == existing.files()
    assert GOOD == (existing.sites / "dask-swarm.caddy").read_text()


def test_caddys_user_can_read_the_file(existing):
    """Whatever the umask of the user who deploys; a restored file keeps its mode."""
    existing.install("put", GOOD)
    file = existing.sites / "dask-swarm.caddy"
    assert 0o644 == file.stat().st_mode & 0o777
    file.chmod(0o664)
    status, _ = existing.install("put", "notebook.localhost {\n\tno_such_directive\n}\n")
    assert (1, 0o664) == (status, file.stat().st_mode & 0o777)


def test_after_a_killed_run_the_last_good_file_is_restored(existing):
    """The file that the killed run had installed was never accepted."""
    existing.install("put", GOOD)
    file = existing.sites / "dask-swarm.caddy"
    file.rename(file.with_name("dask-swarm.caddy.before"))
    file.write_text("notebook.localhost {\n\tno_such_directive\n}\n")
    status, _ = existing.install("put", "dashboard.localhost {\n\tno_such_directive\n}\n")
    assert (1, GOOD) == (status, file.read_text())
    assert ["dask-swarm.caddy"] == existing.files()


@pytest.mark.parametrize("before", [None, GOOD], ids=["first", "later"])
def test_a_bad_file_leaves_the_old_one_serving(existing, before):
    """The message is Caddy's own, and the old configuration is still served."""
    if before:
        existing.install("put", before)
    before_install = statuses(existing)
    status, output = existing.install("put", "notebook.localhost {\n\tno_such_directive\n}\n")
    assert 1 == status
    assert "unrecognized directive: no_such_directive" in output
    assert "still serves the old configuration" in output
    assert before_install == statuses(existing)
    assert "other's content" == existing.ask("other.localhost")[1]
    assert (["dask-swarm.caddy"] if before else []) == existing.files()
    assert before is None or before == (existing.sites / "dask-swarm.caddy").read_text()


def test_a_name_that_another_site_has_is_refused(existing):
    """A stack cannot take over a site of others."""
    taken = GOOD.replace("notebook.localhost {", "http://other.localhost {")
    status, output = existing.install("put", taken)
    assert 1 == status
    assert "ambiguous site definition" in output
    assert "other's content" == existing.ask("other.localhost")[1]


def test_a_caddy_that_is_down_is_reported(existing):
    """The file is valid but not served: the deployment fails, and the file is removed."""
    existing.process.terminate()
    existing.process.wait(20)
    status, output = existing.install("put", GOOD)
    assert 1 == status
    assert "does not reload" in output
    assert "connection refused" in output
    assert [] == existing.files()


def test_sites_are_removed_and_a_second_removal_is_no_error(existing):
    """`destroy` removes the stack's sites and leaves the others."""
    existing.install("put", GOOD)
    for _ in range(2):
        status, output = existing.install("remove")
        assert 0 == status, output
    assert [] == existing.files()
    assert [200, 200] == statuses(existing)
    assert "other's content" == existing.ask("other.localhost")[1]


def test_a_missing_directory_is_named(existing):
    """The message says which directory is missing and why it is needed."""
    status, output = existing.install("put", GOOD, directory="/nowhere/sites")
    assert 1 == status
    assert (
        "the directory /nowhere/sites does not exist: Caddy's main file must import it" in output
    )


def test_another_host_is_reached_by_ssh_with_a_known_key_only(existing):
    """ssh asks no question and accepts no unknown key; the text comes on standard input."""
    ssh = existing.folder / "bin" / "ssh"
    ssh.write_text(
        f'#!/bin/sh\necho "$@" | head -n 1 >{existing.folder}/seen\n'
        'for last; do :; done\nexec sh -c "$last"\n'
    )
    ssh.chmod(0o755)
    status, output = existing.install("put", GOOD, host="ssh://deploy@edge:2222")
    assert 0 == status, output
    seen = (existing.folder / "seen").read_text()
    assert seen.startswith("-Fswarm/ssh_config -T -l deploy -p 2222 -- edge ")
    assert [308, 308] == statuses(existing)
    assert "ssh://deploy@edge:2222" in output


def test_caddy_in_a_container_is_called_in_its_container(existing):
    """If Caddy runs in Docker, the program in its container validates and reloads."""
    docker = existing.folder / "bin" / "docker"
    docker.write_text(
        '#!/bin/sh\ncase "$1" in\n'
        'ps) echo "$@" | grep -q "service.name=edge_caddy" && echo c0ffee ;;\n'
        'exec) [ "$2" = c0ffee ] && shift 2 && exec "$@" ;; esac\n'
    )
    docker.chmod(0o755)
    status, output = existing.install("put", GOOD, service="edge_caddy")
    assert 0 == status, output
    assert [308, 308] == statuses(existing)
    status, output = existing.install("put", GOOD, service="other")
    assert 1 == status
    assert "no container of other runs on this host" in output


def test_an_invalid_request_is_not_printed(existing):
    """It may contain a password hash."""
    status, output = existing.install("put", unknown="s3cret")
    assert 1 == status
    assert "not valid" in output
    assert "s3cret" not in output
