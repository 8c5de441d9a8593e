"""The file of an existing Caddy, with a stand-in for the `caddy` command."""

import pytest

from caddy import install
from caddy.install import InstallRequest

NAME = "dask-swarm.caddy"


@pytest.fixture
def sites(tmp_path, monkeypatch):
    """Return a directory of sites; its Caddy refuses a file with the word `bad`."""
    (tmp_path / "sites").mkdir()
    caddy = tmp_path / "caddy"
    caddy.write_text(f"#!/bin/sh\n! grep --quiet bad {tmp_path}/sites/{NAME}\n")
    caddy.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path / "sites"


def put(sites, text):
    """Install a text."""
    request = InstallRequest(
        host="", directory=str(sites), main_file="/Caddyfile", service="", text=text
    )
    return install.install(request, "put")


def test_a_file_that_is_accepted_replaces_the_old_file(sites):
    """Nothing else is left in the directory: Caddy may import all of it."""
    put(sites, "first")
    put(sites, "second")
    assert {NAME: "second"} == {path.name: path.read_text() for path in sites.iterdir()}


def test_a_refused_file_leaves_the_file_from_before_an_interrupted_run(sites):
    """A run that was killed has left a file that no Caddy has accepted."""
    (sites / NAME).write_text("bad")
    (sites / f"{NAME}.before").write_text("good")
    with pytest.raises(RuntimeError, match="Caddy refuses the new file"):
        put(sites, "bad too")
    assert {NAME: "good"} == {path.name: path.read_text() for path in sites.iterdir()}


def test_a_caddy_that_hangs_is_not_waited_for_for_ever(sites, monkeypatch):
    """The message has the file and the time."""
    (sites.parent / "caddy").write_text("#!/bin/sh\nexec sleep 5\n")
    monkeypatch.setattr(install, "DEADLINE_SECONDS", 0.5)
    with pytest.raises(RuntimeError, match=rf"{NAME} on this machine: not finished within 0.5 s"):
        put(sites, "new")


def use_version(sites, version):
    """Have the stand-in print a version, as `caddy version` does."""
    (sites.parent / "caddy").write_text(f'#!/bin/sh\n[ "$1" != version ] || echo "{version}"\n')


@pytest.mark.parametrize("version", ["v2.11.1 h1:x=", "2.9.1", "v2.6.2"])
def test_a_caddy_that_lets_forged_users_through_gets_no_login_by_authelia(sites, version):
    """The file of before stays, and the message has the version and the hole."""
    (sites / NAME).write_text("good")
    use_version(sites, version)
    number = version.partition(" ")[0]
    with pytest.raises(RuntimeError, match=rf"Caddy {number} lets .*CVE-2026-30851"):
        put(sites, "copy_headers Remote-User")
    assert {NAME: "good"} == {path.name: path.read_text() for path in sites.iterdir()}


@pytest.mark.parametrize("version", ["v2.11.2 h1:x=", "v2.11.10", "v3.0.0", "(devel)", ""])
def test_a_current_or_unknown_caddy_gets_a_login_by_authelia(sites, version):
    """An own build may print no version."""
    use_version(sites, version)
    put(sites, "copy_headers Remote-User")
    assert "copy_headers Remote-User" == (sites / NAME).read_text()


def test_an_old_caddy_gets_sites_with_another_login(sites):
    """Without `copy_headers` it has no such hole."""
    use_version(sites, "v2.6.2")
    put(sites, "basic_auth")
    assert "basic_auth" == (sites / NAME).read_text()
