"""A machine's Caddy is used when it is current, and otherwise one is built or asked for."""

import pytest

from lab import caddy


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


def test_an_old_caddy_on_path_is_passed_over(monkeypatch, tmp_path):
    """Debian's own is not used even where it is installed."""
    monkeypatch.setattr(caddy, "which", lambda _: "/usr/bin/caddy")
    monkeypatch.setattr(caddy, "run", lambda _: "2.6.2")
    monkeypatch.setattr(caddy, "built", lambda name, _, version: tmp_path / f"{name}-{version}")
    assert tmp_path / f"caddy-{caddy.VERSION}" == caddy.find_caddy()
