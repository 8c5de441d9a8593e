"""A current Caddy for this machine: the one on PATH, or built from its source with Go.

Debian's is too old: before 2.11.2 a client's own `Remote-User` header got through
(CVE-2026-30851). What is built stays in `.lab/` beside the program, for the next time.
"""

import os
import re
import tempfile
from pathlib import Path
from shutil import which

from lab.guard import only_one
from lab.shell import LabError, run, step

VERSION = "2.11.9"
OLDEST = (2, 11, 2)
_MODULE = f"github.com/caddyserver/caddy/v2/cmd/caddy@v{VERSION}"
_PLACE = Path(__file__).parent.parent / ".lab" / f"caddy-{VERSION}"
_GO = "/usr/local/go/bin/go"  # where Go's own installer puts it, often not on PATH
_BUILD_SECONDS = 1200


def find_caddy() -> Path:
    """Return a Caddy of at least `OLDEST`; builds one when there is none.

    Raises `LabError` when it cannot, which takes neither Caddy nor Go on this machine.
    """
    here = which("caddy")
    return Path(here) if here and is_current(run([here, "version"])) else built_caddy()


def built_caddy() -> Path:
    """Return the Caddy of `VERSION` that needs no library, and so runs in any image."""
    with only_one(_PLACE):
        if not _PLACE.exists():
            _build()
    return _PLACE


def is_current(printed: str) -> bool:
    """Whether `caddy version` printed a version that is safe to use."""
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", printed)
    return bool(found) and tuple(map(int, found.groups())) >= OLDEST  # type: ignore[union-attr]


def _build() -> None:
    go = which("go") or which(_GO)
    if go is None:
        oldest = ".".join(map(str, OLDEST))
        raise LabError(
            f"neither a Caddy of at least {oldest} nor Go to build one is on PATH: install Caddy"
            " from https://caddyserver.com/download or Go from https://go.dev/dl"
        )
    _PLACE.parent.mkdir(exist_ok=True)
    # Built beside its place, so that one which is cut short is not taken for whole.
    with (
        step(f"building Caddy {VERSION}, which takes about two minutes"),
        tempfile.TemporaryDirectory(dir=_PLACE.parent) as workplace,
    ):
        settings = [f"GOBIN={workplace}", "CGO_ENABLED=0", "GOFLAGS=-trimpath"]
        path = f"PATH={os.environ.get('PATH', '')}:{Path(go).parent}"
        run(["env", *settings, path, go, "install", _MODULE], seconds=_BUILD_SECONDS)
        (Path(workplace) / "caddy").replace(_PLACE)
