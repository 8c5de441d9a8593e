"""The versions of Python, Dask and the packages: one everywhere, and the ones that were asked for.

Pure decisions over what `Client.get_versions` returns.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from . import UnprovenError

# What `Client.get_versions(check=True)` compares, and what dataframes travel in. Stricter than
# distributed, also on the scheduler: it unpickles graphs, which hold arrays and frames.
COMPARED = (
    "python", "dask", "distributed", "msgpack", "cloudpickle", "tornado", "toolz",
    "numpy", "pandas", "pyarrow", "lz4",
)  # fmt: skip


def asked_versions(requirements: Sequence[str]) -> list[str]:
    """Return the packages whose versions are asked for beyond those that distributed reports."""
    return ["pyarrow", *map(requirement_name, requirements)]


def everyone(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the packages of scheduler, workers and client, which has the notebook's image."""
    named = {"the scheduler": found["scheduler"], "the notebook's image": found["client"]}
    return named | dict(found["workers"])


def common_versions(owners: Mapping[str, Any]) -> dict[str, str]:
    """Return the one version of each of `COMPARED` that is installed.

    Raises `UnprovenError` if there are several, or if a package is missing in some places only.
    `owners` is what `everyone` returns.
    """
    versions = {}
    for package in COMPARED:
        who = group({name: plain(each["packages"][package]) for name, each in owners.items()})
        if len(who) > 1:
            listed = "; ".join(f"{each} in {', '.join(names)}" for each, names in who.items())
            raise UnprovenError(f"expected one version of {package} everywhere, found {listed}")
        versions[package] = next(iter(who))
    return {package: version for package, version in versions.items() if version != "none"}


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


def package_versions(owners: Mapping[str, Any], requirements: Sequence[str]) -> dict[str, str]:
    """Return the installed version of each required package.

    Raises `UnprovenError` naming who has none, or a version that does not satisfy.
    """
    from packaging.requirements import Requirement

    installed = {}
    for requirement in map(Requirement, requirements):
        name = requirement.name
        found_in = group({who: what["packages"][name] or "" for who, what in owners.items()})
        for version, who in found_in.items():
            if not version or not requirement.specifier.contains(version, prereleases=True):
                found = f"version {version}" if version else "nothing"
                raise UnprovenError(f"expected {requirement}, found {found} on {', '.join(who)}")
        installed[name] = ", ".join(found_in)
    return installed
