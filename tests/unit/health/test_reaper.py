"""The service is removed when the launcher ends, for any reason."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import ROOT, wait_for

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
timing = Timing(reaper_pause=0.05, reaper_grace=1)
seconds = 0.1 if sys.argv[2] == "hung" else 30
with reaper.reaper("dask_health-1", seconds, timing) as dismiss:
    print("started", flush=True)
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if sys.argv[2] in signal.Signals.__members__:
        child = pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text().strip()
        while os.readlink(f"/proc/{child}/fd/1") != os.devnull:
            time.sleep(0.01)  # until the reaper has left the group
        os.killpg(0, signal.Signals[sys.argv[2]])
    if sys.argv[2] == "hung":
        time.sleep(30)
    if sys.argv[2] == "killed with its group":
        time.sleep(0.3)  # still long before a service is created
        os.killpg(0, signal.SIGKILL)
    if sys.argv[2] == "dismissed":
        dismiss()
"""


SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"]


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


@pytest.mark.parametrize("end", ["killed", "killed with its group", *SIGNALS, "finished"])
def test_an_end_without_dismissal_removes_the_service(tmp_path, end):
    """Killed, ended by a signal to its group, or not able to remove it."""
    assert ["dask_health-1"] == run(tmp_path, end)


def test_a_dismissed_reaper_does_nothing(tmp_path):
    """The launcher has removed the service itself."""
    assert [] == run(tmp_path, "dismissed")


def test_a_service_that_appears_late_is_removed(tmp_path):
    """The request to create it was under way when the launcher died."""
    assert 16 == len(run(tmp_path, "killed", failures=15))


def test_a_launcher_that_hangs_loses_its_service(tmp_path):
    """Its deadline is over for a while, in which it might have read the result."""
    seen = tmp_path / "removed"
    command = [sys.executable, "-c", PROGRAM, str(seen), "hung", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as hung:
        hung.stdout.readline()
        start = time.time()
        wait_for("removal", seen.exists, 10)
        assert seen.stat().st_mtime > start + 0.5
        assert hung.poll() is None
        hung.kill()
    assert "dask_health-1 " == seen.read_text()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_during_the_removal_does_not_end_the_reaper(tmp_path, number):
    """It is in no group of the launcher, and ignores signals to itself."""
    seen = tmp_path / "removed"
    command = [sys.executable, "-c", PROGRAM, str(seen), "killed", "5"]
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
    wait_for("first attempt", seen.exists, 10)
    (reaper,) = [
        int(process.name)
        for process in Path("/proc").iterdir()
        if process.name.isdigit() and str(seen) in command_line(process)
    ]
    assert reaper == os.getsid(reaper)
    os.kill(reaper, signal.Signals[number])
    wait_for("last attempt", lambda: 6 == len(seen.read_text().split()), 10)


def command_line(process):
    with suppress(OSError):
        return (process / "cmdline").read_text()
    return ""
