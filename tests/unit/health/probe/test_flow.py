"""What is proven of a Prefect server, by stand-ins for it and for a flow that has ended."""

import json
import os
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from health.probe import UnprovenError, flow
from health.probe.deadline import deadline
from health.probe.members import MovedError
from health.probe.messages import Prefect

WORKERS = ["tcp://10.0.1.5:1", "tcp://10.0.1.6:1"]


class Server(BaseHTTPRequestHandler):
    """Answers the question for its health."""

    status = 200

    def do_GET(self):
        self.send_response(self.status if self.path == "/api/health" else 404)
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def serving():
    """Yield the address of the API of a running server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, args=[0.01]).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api"
        finally:
            server.shutdown()


def client_of(workers):
    """Return a client of a scheduler that knows these workers."""
    return SimpleNamespace(scheduler_info=lambda **_: {"workers": dict.fromkeys(workers)})


def ended(kind, message=None, result=()):
    """Return the state in which a flow has ended, as Prefect hands it on."""
    return SimpleNamespace(
        type=SimpleNamespace(value=kind),
        message=message,
        result=lambda: result,
        state_details=SimpleNamespace(flow_run_id="f1"),
    )


@pytest.fixture
def prove(monkeypatch):
    """Return a function that proves a flow which ended so, and the names that were forgotten."""
    forgotten = []

    def run(state, recorded=("COMPLETED", 2), there=WORKERS):
        monkeypatch.setattr(flow, "check_installed", lambda: None)
        monkeypatch.setattr(flow, "RECORD_SECONDS", 0)
        monkeypatch.setattr(flow, "run_flow", lambda *_: state)
        monkeypatch.setattr(flow, "recorded", lambda _: recorded)
        monkeypatch.setattr(flow, "forget", forgotten.append)
        monkeypatch.setattr(os, "environ", {})
        with serving() as url:
            server = Prefect(api_url=url, managed=True)
            return flow.prove_flow(client_of(there), server, "tcp://scheduler:8786", WORKERS)

    run.forgotten = forgotten
    return run


def test_a_flow_with_a_task_on_every_worker_is_proven_and_forgotten(prove):
    """The proof has its state and its tasks; the server keeps nothing of it."""
    found = prove(ended("COMPLETED", result=WORKERS))
    assert ("COMPLETED", 2) == (found["state"], found["tasks"])
    assert found["seconds"] >= 0
    (name,) = prove.forgotten
    assert name.startswith("dask-swarm-proof-")


def test_a_flow_that_fails_is_told_in_prefects_words(prove):
    """With the address of the server, and forgotten all the same."""
    said = r"a flow at http://127.0.0.1:\d+/api to end COMPLETED, found FAILED: 1/2 tasks failed"
    with pytest.raises(UnprovenError, match=said):
        prove(ended("FAILED", "1/2 tasks failed"))
    assert 1 == len(prove.forgotten)


def test_a_server_that_does_not_have_the_tasks_is_told(prove):
    """A worker that cannot reach the server still does its task."""
    with pytest.raises(UnprovenError, match=r"2 completed tasks, found COMPLETED with 1"):
        prove(ended("COMPLETED", result=WORKERS), recorded=("COMPLETED", 1))


def test_a_worker_without_a_task_is_named(prove):
    """Every worker has to have run one."""
    with pytest.raises(UnprovenError, match=r"a task of a flow on tcp://10\.0\.1\.6:1, found it"):
        prove(ended("COMPLETED", result=[WORKERS[0]] * 2))


@pytest.mark.parametrize("state", [ended("FAILED"), ended("COMPLETED", result=["tcp://else:1"])])
def test_workers_that_came_or_went_start_the_proof_again(prove, state):
    """What the flow did then says nothing about those there now."""
    with pytest.raises(MovedError):
        prove(state, there=[WORKERS[0]])


def test_a_deadline_ends_a_flow_that_does_not(prove, monkeypatch):
    """Prefect itself would take the error for the flow's own."""
    over = threading.Event()
    monkeypatch.setattr(flow, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(flow, "run_flow", lambda *_: over.wait(5))
    with pytest.raises(UnprovenError, match="not proven in time"), deadline(0.2):
        flow.run_apart(client_of(WORKERS), "name", "tcp://scheduler:8786", WORKERS)
    over.set()


def test_an_own_server_is_waited_for(monkeypatch):
    """It starts together with the cluster; the deadline ends the wait."""
    monkeypatch.setattr(flow, "SILENT_SECONDS", 0)
    with pytest.raises(UnprovenError, match="not proven in time"), deadline(0.3):
        flow.wait_for_server(Prefect(api_url="http://127.0.0.1:1/api", managed=True))


def test_a_server_of_somebody_else_that_does_not_answer_is_told(monkeypatch):
    """With what was set, what was found and what to do."""
    monkeypatch.setattr(flow, "SILENT_SECONDS", 0)
    with pytest.raises(UnprovenError, match=r"127.0.0.1:1/api/health .* found no answer") as told:
        flow.wait_for_server(Prefect(api_url="http://127.0.0.1:1/api", managed=False))
    assert "correct prefectApiUrl" in str(told.value)
    monkeypatch.setattr(Server, "status", 503)
    with serving() as url, pytest.raises(UnprovenError, match="found an answer of 503"):
        flow.wait_for_server(Prefect(api_url=url, managed=False))


def test_a_flow_has_the_environment_of_work(tmp_path):
    """An existing server's key among it; the address is the deployment's."""
    file = tmp_path / "environment"
    file.write_text(json.dumps({"PREFECT_API_AUTH_STRING": "s3cret", "PREFECT_API_URL": "other"}))
    found = flow.variables(Prefect(api_url="http://x/api", managed=False, variables_file=file))
    assert ("s3cret", "http://x/api") == tuple(
        found[name] for name in ("PREFECT_API_AUTH_STRING", "PREFECT_API_URL")
    )


def test_an_image_without_prefect_is_told(monkeypatch):
    """Before anything tries to import it."""
    monkeypatch.setattr(flow, "find_spec", lambda _: None)
    with pytest.raises(UnprovenError, match="to have prefect, prefect_dask, found nothing"):
        flow.check_installed()
