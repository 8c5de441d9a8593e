"""The versions of Python, Dask and the packages: one everywhere, and the ones that were asked for.

Pure decisions over what `Client.get_versions` returns.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from . import UnprovenError

COMPARED = ("python", "dask", "distributed")


def common_versions(found: Mapping[str, Any]) -> dict[str, str]:
    """Return the one version of each of `COMPARED`; raises `UnprovenError` if there are several.

    `found` is what `Client.get_versions` returns; the client runs the notebook's image.
    """
    everyone = {"the scheduler": found["scheduler"], "the notebook's image": found["client"]}
    everyone |= found["workers"]
    versions = {}
    for package in COMPARED:
        owners = group({who: plain(what["packages"][package]) for who, what in everyone.items()})
        if len(owners) > 1:
            listed = "; ".join(f"{each} in {', '.join(who)}" for each, who in owners.items())
            raise UnprovenError(f"expected one version of {package} everywhere, found {listed}")
        versions[package] = next(iter(owners))
    return versions


def plain(version: str | None) -> str:
    """Return `3.12.1` for the `3.12.1.final.0` that distributed makes of Python's version."""
    return (version or "none").removesuffix(".final.0")


def group(values: Mapping[str, str]) -> dict[str, list[str]]:
    """Turn a mapping around: which keys have each value, in order."""
    owners: dict[str, list[str]] = {}
    for key in sorted(values):
        owners.setdefault(values[key], []).append(key)
    return owners


def requirement_name(requirement: str) -> str:
    """Return `s3fs` for `s3fs[x]>=2026.1`."""
    from packaging.requirements import Requirement

    return Requirement(requirement).name


def package_versions(workers: Mapping[str, Any], requirements: Sequence[str]) -> dict[str, str]:
    """Return the installed version of each required package.

    Raises `UnprovenError` naming the workers that have none or one that does not satisfy.
    """
    from packaging.requirements import Requirement

    installed = {}
    for requirement in map(Requirement, requirements):
        name = requirement.name
        owners = group({who: what["packages"][name] or "" for who, what in workers.items()})
        for version, who in owners.items():
            if not version or not requirement.specifier.contains(version, prereleases=True):
                found = f"version {version}" if version else "nothing"
                raise UnprovenError(f"expected {requirement}, found {found} on {', '.join(who)}")
        installed[name] = ", ".join(owners)
    return installed
