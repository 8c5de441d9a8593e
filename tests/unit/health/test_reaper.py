"""The service is removed when the launcher ends, for any reason."""

import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT

PROGRAM = """
import os, pathlib, signal, sys, time
from health import reaper
from health.timing import Timing

class Manager:
    def remove(self, name):
        seen = pathlib.Path(sys.argv[1])
        seen.write_text(seen.read_text() + name + " " if seen.exists() else name + " ")
        return seen.read_text().count(name) > int(sys.argv[3])

reaper.Manager = Manager
with reaper.reaper("dask_health-1", 30, Timing(reaper_pause=0.05)) as dismiss:
    print("started", flush=True)
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if sys.argv[2] == "interrupted":
        os.killpg(0, signal.SIGINT)
    if sys.argv[2] == "killed with its group":
        time.sleep(0.3)  # still long before a service is created
        os.killpg(0, signal.SIGKILL)
    if sys.argv[2] == "dismissed":
        dismiss()
"""


def run(tmp_path, end, failures=0):
    """Run a launcher that ends like this; return the removed services."""
    seen = tmp_path / "removed"
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(seen), end, str(failures)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=20,
        start_new_session=True,
    )
    assert "started\n" == done.stdout, done.stderr
    # The pipes are closed although the reaper still runs.
    assert not failures or len(seen.read_text().split() if seen.exists() else []) < failures
    while time.monotonic() < start + 5 and (
        not seen.exists() or len(seen.read_text().split()) <= failures
    ):
        time.sleep(0.02)
        if end == "dismissed" and time.monotonic() > start + 1:
            break
    return seen.read_text().split() if seen.exists() else []


@pytest.mark.parametrize("end", ["killed", "killed with its group", "interrupted", "finished"])
def test_an_end_without_dismissal_removes_the_service(tmp_path, end):
    """Killed, interrupted with its group, or not able to remove it."""
    assert ["dask_health-1"] == run(tmp_path, end)


def test_a_dismissed_reaper_does_nothing(tmp_path):
    """The launcher has removed the service itself."""
    assert [] == run(tmp_path, "dismissed")


def test_a_service_that_appears_late_is_removed(tmp_path):
    """The request to create it was under way when the launcher died."""
    assert 16 == len(run(tmp_path, "killed", failures=15))
