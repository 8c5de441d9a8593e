"""Reports the versions that an image has of what Dask compares; imports none of it."""

import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from .messages import say
from .versions import COMPARED


def main(_: str) -> None:
    """Print the versions."""
    say(proof=installed_versions())


def installed_versions() -> dict[str, str]:
    """Return the version of each installed package of `COMPARED`."""
    versions = {"python": platform.python_version()}
    for package in COMPARED:
        with suppress(PackageNotFoundError):
            versions.setdefault(package, version(package))
    return versions
