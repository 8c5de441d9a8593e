"""A current Caddy for this machine: the one on PATH, or built from its source with Go.

Debian's is too old: before 2.11.2 a client's own `Remote-User` header got through
(CVE-2026-30851). What is built stays in `.lab/` beside the program, for the next time.
"""

import re
from pathlib import Path
from shutil import which

from lab.golang import built
from lab.shell import run

VERSION = "2.11.9"
OLDEST = (2, 11, 2)
_MODULE = "github.com/caddyserver/caddy/v2/cmd/caddy"


def find_caddy() -> Path:
    """Return a Caddy of at least `OLDEST`; builds one when there is none.

    Raises `LabError` when it cannot.
    """
    here = which("caddy")
    return Path(here) if here and is_current(run([here, "version"])) else built_caddy()


def built_caddy() -> Path:
    """Return the Caddy of `VERSION` that needs no library, and so runs in any image."""
    return built("caddy", _MODULE, VERSION)


def is_current(printed: str) -> bool:
    """Whether `caddy version` printed a version that is safe to use."""
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", printed)
    return bool(found) and tuple(map(int, found.groups())) >= OLDEST  # type: ignore[union-attr]
