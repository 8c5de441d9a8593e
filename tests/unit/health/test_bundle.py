"""The probe as it travels, to a cluster of processes that cannot import it."""

import io
import json
import os
import subprocess
import sys
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import distributed
import pytest

from health import bundle, job
from health.probe.messages import MARK
from health.probe.tasks import submit, wait
from health.probe.transfers import knocks
from health.request import Request
from tests.unit.health.test_request import ASKED

GIB = 2**30
LONGEST = 128 * 1024  # MAX_ARG_STRLEN of Linux, for one argument
PATIENCE = 30
# Each worker stands for a host of its own, as on the overlay.
NAMED = """
import os, socket
name = f"host-{os.getpid()}"
socket.gethostname = lambda: name
"""


def test_an_archive_is_the_same_everywhere(monkeypatch, tmp_path):
    """Neither the checkout's place, nor its files' age, order or rights are in it."""
    copies = tmp_path / "some where" / "probe"
    copies.mkdir(parents=True)
    for part in sorted(bundle.PARTS.glob("*.py"), reverse=True):
        copy = copies / part.name
        copy.write_bytes(part.read_bytes())
        copy.chmod(0o600)
        os.utime(copy, (10**9, 10**9))
    (copies / "__pycache__").mkdir()
    here = bundle.archive()
    monkeypatch.setattr(bundle, "PARTS", copies)
    assert here == bundle.archive()
    names = zipfile.ZipFile(io.BytesIO(here)).namelist()
    assert [f"probe/{part.name}" for part in sorted(copies.glob("*.*"))] == names


def test_no_argument_is_nearly_too_long():
    """The kernel starts nothing with an argument of 128 KiB."""
    assert max(map(len, bundle.command("{}"))) < LONGEST // 2


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """Return where and how to run a process that cannot import the probe."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    place = {"cwd": tmp_path_factory.mktemp("stranger"), "env": {"PATH": path}}
    for name in ("health", "probe"):
        command = ["python", "-c", f"import {name}"]
        found = subprocess.run(command, check=False, capture_output=True, text=True, **place)
        assert f"No module named '{name}'" in found.stderr
    return place


@pytest.fixture(scope="module")
def address(stranger):
    """Return the address of a scheduler with two workers, each a process on this machine."""
    file, named = stranger["cwd"] / "scheduler.json", stranger["cwd"] / "named.py"
    named.write_text(NAMED)
    alone = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
    scheduler = ["scheduler", "--port", "0", "--scheduler-file", str(file)]
    worker = ["worker", "--scheduler-file", str(file), "--preload", str(named), "--no-nanny"]
    worker += ["--nthreads", "1", "--memory-limit", "1GiB"]
    with (stranger["cwd"] / "log").open("w") as log:
        started = [
            subprocess.Popen(["dask", *arguments, *alone], stdout=log, stderr=log, **stranger)
            for arguments in (scheduler, worker, worker)
        ]
    try:
        yield address_in(file)
    finally:
        for process in started:
            process.kill()
            process.wait()


def address_in(file):
    end = time.monotonic() + PATIENCE
    while True:
        # It is there before it is full.
        with suppress(FileNotFoundError, json.JSONDecodeError):
            return json.loads(file.read_text())["address"]
        assert time.monotonic() < end, "no scheduler"
        time.sleep(0.05)


def test_an_order_that_is_none_fails_and_leaves_nothing(stranger, monkeypatch, tmp_path):
    """The archive is gone before anything is done."""
    assert 1 == bundle.UNPACK.count("/tmp/")
    monkeypatch.setattr(bundle, "UNPACK", bundle.UNPACK.replace("/tmp/", f"{tmp_path}/"))
    command = bundle.command("no order")
    done = subprocess.run(command, check=False, capture_output=True, text=True, **stranger)
    assert (1, "") == (done.returncode, done.stdout)
    assert "JSONDecodeError" in done.stderr
    assert [] == list(tmp_path.iterdir())


def test_the_program_works_as_it_travels(address, stranger):
    """Its functions reach workers that cannot import it, by the arguments that the service has."""
    expected = {"workers": 2, "threads": 2, "memory_bytes": 2 * GIB, "workers_per_node": 2}
    asked = {"scheduler_address": address, "expected": expected, "notebook": None}
    request = Request.parse(json.dumps(ASKED | asked | {"packages": ["pytest>=8"]}))
    template = job.spec(request, "dask_health-1", PATIENCE, time.time())["task_template"]
    command = template["ContainerSpec"]["Args"]
    run = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=2 * PATIENCE, **stranger
    )
    proof = json.loads(run.stdout.splitlines()[-1].removeprefix(MARK))["proof"]
    one, other = proof["members"]
    assert [[one, other], [other, one]] == sorted(proof.pop("routes"))
    assert {"python", "dask", "distributed", "numpy"} <= proof.pop("versions").keys()
    assert {"pytest"} == proof.pop("packages").keys()
    counted = {"workers": 2, "threads": 2, "memory_bytes": 2 * GIB, "tasks": 2}
    assert counted | {"transfer_bytes": 4 * 2**20, "members": [one, other]} == proof


def test_a_knock_reaches_workers_too(address):
    """It is only wanted where something is wrong."""
    with distributed.Client(address, set_as_default=False) as client:
        client.wait_for_workers(2)
        one, other = client.scheduler_info()["workers"]
        both = [submit(client, one, knocks, to) for to in (other, "tcp://127.0.0.1:9")]
        wait(both, PATIENCE)
        assert [True, False] == [each.result() for each in both]
        assert all(each.key.startswith("knocks-") for each in both)
