"""The bundled probe, with a cluster of processes that cannot import it."""

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
from health.probe.busy import wait
from health.probe.messages import MARK
from health.probe.tasks import submit
from health.probe.transfers import accepts_connection
from health.probe.versions import by_owner, common_versions, queried_packages
from health.request import Request
from tests.conftest import wait_for
from tests.unit.health.test_request import REQUEST

GIB = 2**30
LONGEST = 128 * 1024  # MAX_ARG_STRLEN of Linux, for one argument
TIMEOUT_SECONDS = 30
# Every worker has its own host name, as on the overlay.
HOST_NAMES = """
import os, socket
name = f"host-{os.getpid()}"
socket.gethostname = lambda: name
"""


def test_an_archive_is_the_same_everywhere(monkeypatch, tmp_path):
    """Path of the checkout, and age, order or mode of its files make no difference."""
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
    """Linux starts no program with an argument of 128 KiB."""
    assert max(map(len, bundle.command("{}"))) < LONGEST // 2


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """Return the options of a process that cannot import the probe."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    options = {"cwd": tmp_path_factory.mktemp("outside"), "env": {"PATH": path}}
    for name in ("health", "probe"):
        command = ["python", "-c", f"import {name}"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, **options)
        assert f"No module named '{name}'" in done.stderr
    return options


@pytest.fixture(scope="module")
def address(outside):
    """Return the address of a scheduler with two workers, processes on this machine."""
    file, preload = outside["cwd"] / "scheduler.json", outside["cwd"] / "host_names.py"
    preload.write_text(HOST_NAMES)
    alone = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
    scheduler = ["scheduler", "--port", "0", "--scheduler-file", str(file)]
    worker = ["worker", "--scheduler-file", str(file), "--preload", str(preload), "--no-nanny"]
    worker += ["--nthreads", "1", "--memory-limit", "1GiB"]
    with (outside["cwd"] / "log").open("w") as log:
        processes = [
            subprocess.Popen(["dask", *arguments, *alone], stdout=log, stderr=log, **outside)
            for arguments in (scheduler, worker, worker)
        ]
    try:
        yield wait_for("scheduler", lambda: address_in(file), TIMEOUT_SECONDS)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def address_in(file):
    # The file exists before it is complete.
    with suppress(FileNotFoundError, json.JSONDecodeError):
        return json.loads(file.read_text())["address"]
    return None


def test_an_invalid_request_fails_and_leaves_no_file(outside, monkeypatch, tmp_path):
    """The archive is deleted before the request is read."""
    assert 1 == bundle.UNPACK.count("/tmp/")
    monkeypatch.setattr(bundle, "UNPACK", bundle.UNPACK.replace("/tmp/", f"{tmp_path}/"))
    command = bundle.command("no request")
    done = subprocess.run(command, check=False, capture_output=True, text=True, **outside)
    assert (1, "") == (done.returncode, done.stdout)
    assert "JSONDecodeError" in done.stderr
    assert [] == list(tmp_path.iterdir())


def test_the_bundled_program_works(address, outside):
    """Its functions run on workers that cannot import it, with the service's arguments."""
    expected = {"workers": 2, "threads": 2, "memory_bytes": 2 * GIB, "workers_per_node": 2}
    changes = {"scheduler_address": address, "expected": expected, "notebook": None}
    changes |= {"closed_ports": []}
    request = Request.parse(json.dumps(REQUEST | changes | {"packages": ["pytest>=8"]}))
    template = job.spec(request, "dask_health-1", TIMEOUT_SECONDS, time.time())["task_template"]
    command = template["ContainerSpec"]["Args"]
    run = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=2 * TIMEOUT_SECONDS, **outside
    )
    proof = json.loads(run.stdout.splitlines()[-1].removeprefix(MARK))["proof"]
    one, other = proof["members"]
    assert [[one, other], [other, one]] == sorted(proof.pop("routes"))
    assert {"python", "dask", "distributed", "numpy"} <= proof.pop("versions").keys()
    assert {"pytest"} == proof.pop("packages").keys()
    counts = {"workers": 2, "threads": 2, "memory_bytes": 2 * GIB, "tasks": 2}
    assert counts | {"transfer_bytes": 4 * 2**20, "members": [one, other]} == proof


def test_the_versions_of_an_image_are_those_that_the_proof_compares(address, outside):
    """The program of the upgrade check imports nothing of Dask, and finds the same."""
    command = bundle.command("", "installed")
    run = subprocess.run(command, check=True, capture_output=True, text=True, **outside)
    versions = json.loads(run.stdout.removeprefix(MARK))["proof"]
    with distributed.Client(address, set_as_default=False) as client:
        reported = by_owner(client.get_versions(packages=queried_packages([])))
    assert common_versions(reported) == versions


def test_a_worker_can_test_a_port(address):
    """Only a failed transfer needs it."""
    with distributed.Client(address, set_as_default=False) as client:
        client.wait_for_workers(2)
        one, other = client.scheduler_info()["workers"]
        both = [submit(client, one, accepts_connection, to) for to in (other, "tcp://127.0.0.1:9")]
        wait(client, [one], both, TIMEOUT_SECONDS)
        assert [True, False] == [future.result() for future in both]
        assert all(future.key.startswith("accepts_connection-") for future in both)
