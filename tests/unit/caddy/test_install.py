"""The file of an existing Caddy, with a stand-in for the `caddy` command."""

import pytest

from caddy import install
from caddy.install import NAME, InstallRequest


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
