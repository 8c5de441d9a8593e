"""The program registers the same inputs, byte for byte, on every machine and for every user."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

EVERYTHING = {
    "domain": "example.org",
    "auth": "basic",
    "caddyMode": "managed",
    "acmeEmail": "admin@example.org",
    "dockerHost": "ssh://deploy@manager",
    "platform": "linux/arm64,linux/amd64",
}
# Loaded by every interpreter that has it on its path.
LATER = """
import time
now = time.time
time.time = lambda: now() + 10_000_000
time.time_ns = lambda: int(time.time() * 1e9)
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Return two checkouts, the second deep and with a blank in its path."""
    folder = tmp_path_factory.mktemp("same")
    checkouts = folder / "one", folder / "some where" / "else" / "the other"
    left_out = shutil.ignore_patterns(".venv", ".git", ".lab", ".pulumi", "*cache*", "docs")
    for checkout in checkouts:
        shutil.copytree(ROOT, checkout, ignore=left_out)
    return checkouts


def inputs(checkout, python=sys.executable, **environment):
    """Return what the program in a checkout registers, as bytes."""
    command = [python, "-m", "tests.program.registrations"]
    fixed = {"PATH": os.environ["PATH"], "PYTHONPATH": str(checkout), "DASK_SWARM_OFFLINE": "1"}
    done = subprocess.run(
        command,
        cwd=checkout,
        env=fixed | environment,
        input=json.dumps(EVERYTHING).encode(),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert 0 == done.returncode, done.stderr.decode()
    return done.stdout


@pytest.fixture(scope="module")
def usual(places):
    """Return the registrations of this checkout."""
    return inputs(places[0])


def test_another_checkout_and_another_user_change_nothing(places, usual, tmp_path):
    """Path, home, user, temporary directory, terminal and shell."""
    user = {"HOME": str(tmp_path), "USER": "other", "LOGNAME": "other", "SHELL": "/bin/zsh"}
    place = {
        "TMPDIR": str(tmp_path),
        "PWD": "/elsewhere",
        "HOSTNAME": "elsewhere",
        "COLUMNS": "20",
    }
    assert usual == inputs(places[1], **user, **place)


def test_another_day_and_zone_change_nothing(places, usual, tmp_path):
    """No clock is in any input."""
    (tmp_path / "sitecustomize.py").write_text(LATER)
    path = f"{places[0]}:{tmp_path}"
    assert usual == inputs(places[0], PYTHONPATH=path, TZ="Pacific/Kiritimati")


@pytest.mark.parametrize("seed", ["1", "31337"])
def test_another_order_of_hashes_changes_nothing(places, usual, seed):
    """No set is written down as it comes."""
    assert usual == inputs(places[0], PYTHONHASHSEED=seed)


@pytest.mark.parametrize(
    "words",
    [
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"LC_ALL": "POSIX", "PYTHONIOENCODING": "utf-8", "PYTHONUTF8": "0", "LANGUAGE": "de"},
    ],
    ids=["ASCII", "German"],
)
def test_another_language_changes_nothing(places, usual, words):
    """Files are read as what they are, not as the machine thinks."""
    assert usual == inputs(places[0], **words)


def test_another_interpreter_changes_nothing(places, usual, tmp_path):
    """The environment that it lives in may be anywhere."""
    python = tmp_path / "python"
    python.symlink_to(os.path.realpath(sys.executable))
    packages = os.pathsep.join([str(places[0]), *filter(os.path.isdir, sys.path[1:])])
    assert usual == inputs(places[0], python=python, PYTHONPATH=packages)


def test_other_engines_in_the_environment_change_nothing(places, usual):
    """What leads other clients elsewhere does not lead the program."""
    elsewhere = {"DOCKER_HOST": "tcp://elsewhere:1", "DOCKER_CONFIG": "/nowhere"}
    assert usual == inputs(places[0], **elsewhere, SSH_AUTH_SOCK="/nowhere/agent", CI="true")


def test_neither_path_nor_user_is_in_any_input(places, usual):
    """The inputs contain nothing else of this machine."""
    for mine in (str(places[0]), sys.prefix, str(Path.home()), os.uname().nodename):
        assert json.dumps(mine)[1:-1].encode() not in usual
