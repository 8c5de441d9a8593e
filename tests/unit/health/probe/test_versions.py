"""The same versions everywhere, and packages as required."""

import pytest

from health.probe import UnprovenError
from health.probe.versions import (
    COMPARED,
    SAFE,
    by_owner,
    check_holes,
    common_versions,
    package_versions,
    queried_packages,
)


def versions(**packages):
    known = dict.fromkeys(COMPARED, "1") | {"python": "3.12.1.final.0", "pyarrow": None}
    return {"packages": known | packages}


def test_common_versions_are_returned():
    """Python's version is short; packages that no owner has are left out."""
    owners = {"the scheduler": versions(), "the notebook's image": versions(), "w": versions()}
    expected = dict.fromkeys(COMPARED, "1") | {"python": "3.12.1"}
    del expected["pyarrow"]
    assert expected == common_versions(owners)


def test_workers_may_have_another_architecture():
    """Only versions must be equal."""
    owners = {
        machine: versions() | {"host": {"machine": machine, "OS-release": machine}}
        for machine in ("x86_64", "aarch64")
    }
    assert "1" == common_versions(owners)["numpy"]


def test_scheduler_workers_and_client_are_compared():
    """The client runs the notebook's image."""
    reported = {"scheduler": 1, "client": 2, "workers": {"tcp://1": 3}}
    assert {"the scheduler": 1, "the notebook's image": 2, "tcp://1": 3} == by_owner(reported)


@pytest.mark.parametrize("package", COMPARED)
@pytest.mark.parametrize("owner", ["the scheduler", "the notebook's image", "tcp://2"])
@pytest.mark.parametrize("version", ["2", None])
def test_a_different_version_is_reported_with_its_owner(package, owner, version):
    """A missing package counts as a different version."""
    owners = dict.fromkeys(
        ["the scheduler", "the notebook's image", "tcp://1", "tcp://2"], versions(pyarrow="1")
    )
    owners[owner] = versions(**{"pyarrow": "1", package: version})
    message = rf"one version of {package} .*{version or 'none'} in {owner}"
    with pytest.raises(UnprovenError, match=message):
        common_versions(owners)


@pytest.mark.parametrize(
    ("requirement", "message"),
    [
        ("s3fs", None),
        ("s3fs[boto3]>=2026.1,<2027", None),
        ("s3fs>=2027", r"expected s3fs>=2027, found version 2026\.9\.0 on w1, w2"),
        ("absent", "expected absent, found nothing on w1, w2"),
    ],
)
def test_packages_satisfy_their_requirements(requirement, message):
    """A package outside its requirement counts as missing."""
    owner = {"packages": {"s3fs": "2026.9.0", "absent": None}}
    workers = {"w1": owner, "w2": owner}
    if message is None:
        assert {"s3fs": "2026.9.0"} == package_versions(workers, [requirement])
        return
    with pytest.raises(UnprovenError, match=message):
        package_versions(workers, [requirement])


HOLES = [
    ("distributed", "2026.1.0", "CVE-2026-23528"),
    ("distributed", "2025.12.0", "CVE-2026-23528"),
    ("jupyter-server-proxy", "4.1.2", "CVE-2024-28179"),
]


@pytest.mark.parametrize(("package", "version", "hole"), HOLES)
@pytest.mark.parametrize("owner", ["the scheduler", "the notebook's image", "tcp://1"])
def test_a_version_with_a_known_hole_is_refused(owner, package, version, hole):
    """The message has the version, its owner and the hole."""
    names = ("the scheduler", "the notebook's image", "tcp://1")
    owners = {name: {"packages": {"distributed": "2026.8.0"}} for name in names}
    owners[owner] = {"packages": {"distributed": "2026.8.0", package: version}}
    safe, _ = SAFE[package]
    message = f"{package} {safe} or newer, found {version} on {owner}: .*{hole}"
    with pytest.raises(UnprovenError, match=message):
        check_holes(owners)


@pytest.mark.parametrize("proxy", [None, "4.2.0", "4.10.0"])
def test_versions_without_a_known_hole_pass(proxy):
    """A package that is not installed has none."""
    check_holes({"w": {"packages": {"distributed": "2026.1.1", "jupyter-server-proxy": proxy}}})


def test_the_packages_with_known_holes_are_queried():
    """Without an answer their versions would not be known."""
    assert {*SAFE} <= {*queried_packages([])}
