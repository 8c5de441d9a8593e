"""Caddy is this machine's, Debian's or built, the first of them that is safe to use."""

from pathlib import Path

import pytest

from lab import caddy
from lab.shell import LabError


@pytest.mark.parametrize(
    ("printed", "current"),
    [
        ("v2.11.9 h1:abc=", True),
        ("2.11.2", True),
        ("v2.12.0", True),
        ("v2.11.1 h1:abc=", False),
        ("2.6.2", False),
        ("(devel)", False),
    ],
)
def test_versions_with_the_known_hole_are_too_old(printed, current):
    """Before 2.11.2 a client's own `Remote-*` headers got through."""
    assert current == caddy.is_current(printed)


@pytest.fixture
def place(monkeypatch, tmp_path):
    """Return the place of Debian's Caddy, on a machine without Caddy on PATH."""
    monkeypatch.setattr(caddy, "PLACE", tmp_path)
    monkeypatch.setattr(caddy, "which", lambda _: None)
    monkeypatch.setattr(
        caddy, "ensure_program", lambda name, _, version: tmp_path / f"{name}-{version}"
    )
    monkeypatch.setattr(caddy, "run", lambda command: Path(command[0]).read_text())
    return tmp_path / "caddy-debian"


@pytest.fixture
def package(monkeypatch):
    """Return a function that gives Debian's package a version."""

    def give(version):
        monkeypatch.setattr(
            caddy.debian, "fetch_file", lambda *_: _[-1].write_text(version) and None
        )

    return give


def test_an_old_caddy_on_path_is_passed_over(monkeypatch, place, package):
    """A stable Debian's is not used even where it is installed."""
    old = place.parent / "old"
    old.write_text("2.6.2")
    package("2.11.4")
    monkeypatch.setattr(caddy, "which", lambda _: str(old))
    assert place == caddy.find_caddy()


def test_debians_package_is_fetched_once(monkeypatch, place, package):
    """The second time, nothing is fetched."""
    package("2.11.4")
    assert place == caddy.find_caddy()
    monkeypatch.setattr(caddy.debian, "fetch_file", None)
    assert place == caddy.find_caddy()


def test_a_package_that_is_too_old_is_not_used(place, package):
    """Caddy is built instead."""
    package("2.11.1")
    assert place.parent / f"caddy-{caddy.VERSION}" == caddy.find_caddy()


def test_without_a_package_caddy_is_built(monkeypatch, place, capsys):
    """The reason is printed."""

    def fail(*_):
        raise LabError("this system has no apt-get")

    monkeypatch.setattr(caddy.debian, "fetch_file", fail)
    assert place.parent / f"caddy-{caddy.VERSION}" == caddy.find_caddy()
    assert "cannot be used (this system has no apt-get)" in capsys.readouterr().err


def test_the_series_is_that_of_the_version():
    """An image's tag is true of both its possible sources."""
    assert caddy.VERSION.startswith(f"{caddy.SERIES}.")
