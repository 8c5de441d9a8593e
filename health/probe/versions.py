"""The versions of Python, Dask and packages: the same everywhere, and as required.

Pure functions over the result of `Client.get_versions`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from . import UnprovenError

# What `Client.get_versions(check=True)` compares, and pyarrow for dataframes. The scheduler counts
# too, unlike there: it unpickles graphs, which contain arrays and frames.
COMPARED = (
    "python", "dask", "distributed", "msgpack", "cloudpickle", "tornado", "toolz",
    "numpy", "pandas", "pyarrow", "lz4",
)  # fmt: skip
# The first version of a package without a known hole, and the hole.
SAFE = {
    "distributed": ("2026.1.1", "its dashboard runs a stranger's code, CVE-2026-23528"),
    "jupyter-server-proxy": ("4.2.0", "its websockets need no login, CVE-2024-28179"),
}


def queried_packages(requirements: Sequence[str]) -> list[str]:
    """Return the packages to query in addition to those that distributed reports."""
    return ["pyarrow", *SAFE, *map(requirement_name, requirements)]


def by_owner(reported: Mapping[str, Any]) -> dict[str, Any]:
    """Return the packages of scheduler, workers and client, which runs the notebook's image."""
    named = {"the scheduler": reported["scheduler"], "the notebook's image": reported["client"]}
    return named | dict(reported["workers"])


def common_versions(owners: Mapping[str, Any]) -> dict[str, str]:
    """Return the version of each installed package of `COMPARED`.

    Raises `UnprovenError` if versions differ, or if only some owners have a package.
    `owners` is the result of `by_owner`.
    """
    versions = {
        name: {package: plain(owner["packages"][package]) for package in COMPARED}
        for name, owner in owners.items()
    }
    for package, listed in differences(versions).items():
        raise UnprovenError(f"expected one version of {package} everywhere, found {listed}")
    common = next(iter(versions.values()))
    return {package: version for package, version in common.items() if version != "none"}


def differences(versions: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the packages of `COMPARED` with several versions, and a list of these for a message.

    `versions` is owner to package to version.
    """
    found = {
        package: group({name: known.get(package, "none") for name, known in versions.items()})
        for package in COMPARED
    }
    return {
        package: "; ".join(f"{version} in {', '.join(owners[version])}" for version in owners)
        for package, owners in found.items()
        if len(owners) > 1
    }


def check_holes(owners: Mapping[str, Any]) -> None:
    """Raise `UnprovenError` for an installed version with a known hole."""
    from packaging.version import Version

    for package, (safe, hole) in SAFE.items():
        for name, owner in owners.items():
            version = owner["packages"].get(package)
            if version and Version(version) < Version(safe):
                raise UnprovenError(
                    f"expected {package} {safe} or newer, found {version} on {name}: {hole}"
                )


def plain(version: str | None) -> str:
    """Return `3.12.1` for `3.12.1.final.0`, as distributed reports Python's version."""
    return (version or "none").removesuffix(".final.0")


def group(values: Mapping[str, str]) -> dict[str, list[str]]:
    """Return value to its keys, in order."""
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

    Raises `UnprovenError` with the owners that lack it, or have a version outside the requirement.
    """
    from packaging.requirements import Requirement

    installed = {}
    for requirement in map(Requirement, requirements):
        name = requirement.name
        versions = group({key: owner["packages"][name] or "" for key, owner in owners.items()})
        for version, names in versions.items():
            if not version or not requirement.specifier.contains(version, prereleases=True):
                found = f"version {version}" if version else "nothing"
                raise UnprovenError(f"expected {requirement}, found {found} on {', '.join(names)}")
        installed[name] = ", ".join(versions)
    return installed
