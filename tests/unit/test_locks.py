"""What pip installs here is locked by hash, and the images' packages can be listed."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from lab.context import LOCKS
from tests.conftest import ROOT

PACKAGE = re.compile(r"^([a-z0-9-]+)==([^ ;\\]+)", re.MULTILINE)


def locked(lock):
    """Return the locked packages with their versions."""
    return PACKAGE.findall((ROOT / lock).read_text())


def required(source):
    """Return the requirements of a source that its lock must meet."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / source).read_text().splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


@pytest.mark.parametrize("lock", LOCKS.values())
def test_every_package_has_a_hash(lock):
    """pip installs no changed package; a lock is valid for every package index."""
    text = (ROOT / lock).read_text()
    blocks = [b for b in re.split(r"\n(?=\S)", text) if not b.startswith("#")]
    assert [] == [block for block in blocks if "--hash=sha256:" not in block]
    assert len(locked(lock)) == len(blocks)
    assert "://" not in text


@pytest.mark.parametrize(("source", "lock"), LOCKS.items())
def test_a_lock_meets_its_requirements(source, lock):
    """A changed requirement needs `python -m lab lock`."""
    versions = dict(locked(lock))
    for requirement in required(source):
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert requirement.specifier.contains(versions[name], prereleases=True), requirement


def test_tests_and_users_have_the_same_versions():
    """What is tested is what `requirements.lock` installs."""
    assert set(locked("requirements.lock")) <= set(locked("requirements-dev.lock"))


def test_make_installs_by_hash():
    """Neither the environment of the tests nor that of the README takes an unlocked package."""
    assert "--require-hashes -r requirements-dev.lock" in (ROOT / "Makefile").read_text()
    assert "--require-hashes -r requirements.lock" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("image", ["dask", "notebook"])
def test_the_bill_of_materials_lists_every_locked_package(tmp_path, image):
    """As `make sbom` writes it."""
    program = Path(sys.executable).with_name("cyclonedx-py")
    lock, file = ROOT / "images" / f"{image}.txt", tmp_path / "sbom.json"
    command = [program, "requirements", "--no-validate", "--output-file", file, lock]
    subprocess.run(command, check=True)
    components = json.loads(file.read_text())["components"]
    assert set(locked(lock)) == {(c["name"], c["version"]) for c in components}
