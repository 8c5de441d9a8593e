"""The launcher's request, and its errors for an invalid request."""

import io
import json
import os
import subprocess
import sys

import pytest

from health import launch
from health.request import Request
from tests.conftest import ROOT

REQUEST = {
    "deadline_seconds": 180,
    "image": "registry:5000/dask-notebook:1@sha256:0",
    "healthy": [],
    "constraints": ["node.labels.role==master"],
    "platforms": ["linux/amd64", "linux/arm64"],
    "scheduler_address": "tcp://scheduler:8786",
    "network_id": "n1",
    "network_name": "dask-network",
    "caddy_network_id": "n2",
    "closed_ports": ["dask_scheduler.caddy-network:8786"],
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
    request = Request.parse(json.dumps(REQUEST | {"healthy": ["dask_caddy"]}))
    assert ("dask_caddy",) == request.healthy
    assert 4 == request.probe.expected.workers
    assert "token" == request.probe.notebook.kind
    assert ("prefect", "s3fs>=2026.1") == request.probe.packages
    assert ("dask_scheduler.caddy-network:8786",) == request.probe.closed_ports


def test_there_may_be_no_notebook():
    """With null the proof has no notebook."""
    assert Request.parse(json.dumps(REQUEST | {"notebook": None})).probe.notebook is None


def test_whole_numbers_may_arrive_as_fractions():
    """Pulumi has no integers; messages and comparisons must not show that."""
    expected = {"workers": 4.0, "threads": 4.0, "memory_bytes": 2.0**32, "workers_per_node": 2.0}
    request = Request.parse(json.dumps(REQUEST | {"expected": expected}))
    expected = request.probe.expected
    assert "4 4294967296" == f"{expected.workers} {expected.memory_bytes}"


def test_there_may_be_a_bucket_to_prove():
    """The address of its server is for messages."""
    store = {"bucket": "dask", "endpoint": "https://s3.example.org"}
    request = Request.parse(json.dumps(REQUEST | {"object_store": store}))
    assert ("dask", "https://s3.example.org") == (
        request.probe.object_store.bucket,
        request.probe.object_store.endpoint,
    )


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps(REQUEST | {"colour": "blue"})])
def test_an_invalid_request_is_refused_with_a_message(text, monkeypatch, capsys):
    """The launcher ends with 1 and one line, not with a traceback."""
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert 1 == launch.main()
    assert "the request on standard input is not understood" in capsys.readouterr().err


def test_a_manager_that_does_not_answer_is_named():
    """The message has its address."""
    run = subprocess.run(
        [sys.executable, "-m", "health"],
        cwd=ROOT,
        env=os.environ | {"DOCKER_HOST": "unix:///nowhere/docker.sock"},
        input=json.dumps(REQUEST),
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (1, "") == (run.returncode, run.stdout)
    assert "the Swarm manager at unix:///nowhere/docker.sock" in run.stderr
