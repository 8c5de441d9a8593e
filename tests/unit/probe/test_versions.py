"""One version everywhere, and packages in the versions that were asked for."""

import pytest

from health.probe import UnprovenError
from health.probe.versions import common_versions, package_versions


def versions(**packages):
    return {"packages": {"python": "3.12.1.final.0", "dask": "1", "distributed": "1"} | packages}


def test_common_versions_are_returned():
    """Python's version is spelled as people know it."""
    found = {"scheduler": versions(), "client": versions(), "workers": {"w": versions()}}
    assert {"python": "3.12.1", "dask": "1", "distributed": "1"} == common_versions(found)


@pytest.mark.parametrize(
    ("changed", "bearer"),
    [
        ({"scheduler": versions(dask="2")}, "the scheduler"),
        ({"client": versions(dask="2")}, "the notebook's image"),
        ({"workers": {"tcp://1": versions(), "tcp://2": versions(dask="2")}}, "tcp://2"),
    ],
)
def test_another_version_is_told_with_its_bearer(changed, bearer):
    """The majority is not always right, so both are named."""
    found = {"scheduler": versions(), "client": versions(), "workers": {"tcp://1": versions()}}
    with pytest.raises(UnprovenError, match=rf"one version of dask .*2 in {bearer}"):
        common_versions(found | changed)


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
    """A package that is there in another version is not the one that was asked for."""
    each = {"packages": {"s3fs": "2026.9.0", "absent": None}}
    workers = {"w1": each, "w2": each}
    if message is None:
        assert {"s3fs": "2026.9.0"} == package_versions(workers, [requirement])
        return
    with pytest.raises(UnprovenError, match=message):
        package_versions(workers, [requirement])
