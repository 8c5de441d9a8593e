"""A current Caddy for this machine: the program on PATH, Debian's package, or a build with Go.

The Caddy of Debian's stable releases is too old: before 2.11.2 a client's `Remote-User` header got
through (CVE-2026-30851). Owns `.lab/caddy-debian`.
"""

import re
from pathlib import Path
from shutil import which

from lab import debian
from lab.golang import PLACE, ensure_program
from lab.shell import LabError, only_one, run, say

VERSION = "2.11.9"
SERIES = "2.11"  # of VERSION and of Debian's package
OLDEST = (2, 11, 2)
_MODULE = "github.com/caddyserver/caddy/v2/cmd/caddy"
_SUITE = "forky"


def find_caddy() -> Path:
    """Return a Caddy of at least `OLDEST`; `LabError` where Caddy cannot even be built."""
    on_path = which("caddy")
    if on_path and is_current(run([on_path, "version"])):
        return Path(on_path)
    return fetch_caddy() or build_caddy()


def fetch_caddy() -> Path | None:
    """Return the program of Debian's package, which needs glibc 2.34 or newer; None without it."""
    place = PLACE / "caddy-debian"
    place.parent.mkdir(exist_ok=True)
    try:
        with only_one(place):
            if not _is_usable(place):
                debian.fetch_file("caddy", _SUITE, "usr/bin/caddy", place)
            if _is_usable(place):
                return place
        say(f"Caddy of Debian {_SUITE}: too old. Building Caddy instead")
    except LabError as error:
        say(f"Caddy of Debian {_SUITE}: cannot be used ({error}). Building Caddy instead")
    return None


def build_caddy() -> Path:
    """Return a build of `VERSION`, which needs no library and so runs in any image."""
    return ensure_program("caddy", _MODULE, VERSION)


def is_current(printed: str) -> bool:
    """Whether `caddy version` printed a version that is safe to use."""
    version = re.match(r"v?(\d+)\.(\d+)\.(\d+)", printed)
    return bool(version) and tuple(map(int, version.groups())) >= OLDEST  # type: ignore[union-attr]


def _is_usable(program: Path) -> bool:
    return program.exists() and is_current(run([str(program), "version"]))
