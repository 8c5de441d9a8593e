"""What the launcher is asked, and how it refuses what it does not understand."""

import io
import json
import os
import subprocess
import sys

import pytest

from health import launch
from health.request import Request
from tests.conftest import ROOT

ASKED = {
    "deadline_seconds": 180,
    "image": "registry:5000/dask-notebook:1@sha256:0",
    "healthy": [],
    "constraints": ["node.labels.role==master"],
    "scheduler_address": "tcp://scheduler:8786",
    "network_id": "n1",
    "services": {"dask_worker": "e1d5e6a2c9f04b7a"},
    "notebook": {
        "url": "http://dask_notebook:8888",
        "kind": "token",
        "secret_id": "x1",
        "secret_name": "notebook-1",
        "cell": False,
    },
    "expected": {"workers": 4, "threads": 4, "memory_bytes": 4 * 2**30, "workers_per_node": 2},
    "packages": ["prefect", "s3fs>=2026.1"],
    "use": False,
    "object_store": None,
}


def test_a_request_is_read():
    """Keys are the names of the fields."""
    request = Request.parse(json.dumps(ASKED | {"healthy": ["dask_caddy"]}))
    assert ("dask_caddy",) == request.healthy
    assert 4 == request.expected.workers
    assert "token" == request.notebook.kind
    assert ("prefect", "s3fs>=2026.1") == request.packages


def test_there_may_be_no_notebook():
    """Null means that no notebook is part of the proof."""
    assert Request.parse(json.dumps(ASKED | {"notebook": None})).notebook is None


def test_whole_numbers_may_arrive_as_fractions():
    """Pulumi knows one kind of number; messages and comparisons must not show it."""
    expected = {"workers": 4.0, "threads": 4.0, "memory_bytes": 2.0**32, "workers_per_node": 2.0}
    request = Request.parse(json.dumps(ASKED | {"expected": expected}))
    assert "4 4294967296" == f"{request.expected.workers} {request.expected.memory_bytes}"


def test_there_may_be_a_bucket_to_prove():
    """With it comes the address of its server, for messages."""
    store = {"bucket": "dask", "endpoint": "https://s3.example.org"}
    request = Request.parse(json.dumps(ASKED | {"object_store": store}))
    assert ("dask", "https://s3.example.org") == (
        request.object_store.bucket,
        request.object_store.endpoint,
    )


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps(ASKED | {"colour": "blue"})])
def test_anything_else_is_refused_with_a_message(text, monkeypatch, capsys):
    """The launcher ends with 1 and one line, not with a traceback."""
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert 1 == launch.main()
    assert "the request on standard input is not understood" in capsys.readouterr().err


def test_a_manager_that_does_not_answer_is_named():
    """The address is what a person would check first."""
    run = subprocess.run(
        [sys.executable, "-m", "health"],
        cwd=ROOT,
        env=os.environ | {"DOCKER_HOST": "unix:///nowhere/docker.sock"},
        input=json.dumps(ASKED),
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (1, "") == (run.returncode, run.stdout)
    assert "the Swarm manager at unix:///nowhere/docker.sock" in run.stderr
