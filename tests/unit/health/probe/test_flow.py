"""The proof of a Prefect server, with a stub server and flows that have ended."""

import json
import os
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from types import SimpleNamespace

import pytest

from health.probe import UnprovenError, flow
from health.probe.busy import BusyError
from health.probe.deadline import deadline
from health.probe.members import workers_of
from health.probe.messages import Prefect
from health.probe.tasks import submit
from tests.conftest import serving

WORKERS = ["tcp://10.0.1.5:1", "tcp://10.0.1.6:1"]


class Server(BaseHTTPRequestHandler):
    """Answers health checks."""

    status = 200

    def do_GET(self):
        self.send_response(self.status if self.path == "/api/health" else 404)
        self.end_headers()


@contextmanager
def prefect_server():
    """Yield the address of the API of a running server."""
    with serving(Server) as server:
        yield f"http://127.0.0.1:{server.server_port}/api"


def client_of(workers):
    """Return the client of a scheduler with these workers."""
    return SimpleNamespace(scheduler_info=lambda **_: {"workers": dict.fromkeys(workers)})


def ended(kind, message=None, result=()):
    """Return the last state of a flow, as Prefect returns it."""
    return SimpleNamespace(
        type=SimpleNamespace(value=kind),
        message=message,
        result=lambda: result,
        state_details=SimpleNamespace(flow_run_id="f1"),
    )


@pytest.fixture
def prove(monkeypatch):
    """Return a function that proves a flow with this last state; it has the deleted flows."""
    deleted = []

    def run(state, recorded=("COMPLETED", 2)):
        monkeypatch.setattr(flow, "check_installed", lambda: None)
        monkeypatch.setattr(flow, "RECORD_SECONDS", 0)
        monkeypatch.setattr(flow, "run_flow", lambda *_: state)
        monkeypatch.setattr(flow, "ask_record", lambda _: recorded)
        monkeypatch.setattr(flow, "delete_flow", deleted.append)
        monkeypatch.setattr(os, "environ", {})
        with prefect_server() as url:
            server = Prefect(api_url=url, managed=True)
            return flow.prove_flow(client_of(WORKERS), server, "tcp://scheduler:8786", WORKERS)

    run.deleted = deleted
    return run


def test_a_flow_with_a_task_on_every_worker_is_proven_and_deleted(prove):
    """The proof has its state and its tasks; the server keeps no record."""
    proof = prove(ended("COMPLETED", result=WORKERS))
    assert ("COMPLETED", 2) == (proof["state"], proof["tasks"])
    assert proof["seconds"] >= 0
    (name,) = prove.deleted
    assert name.startswith("dask-swarm-proof-")


def test_a_lost_scheduler_ends_the_wait_for_a_flow(monkeypatch):
    """The flow itself would wait for ever."""
    monkeypatch.setattr(flow, "CHECK_SECONDS", 0.05)
    released = threading.Event()
    monkeypatch.setattr(flow, "run_flow", lambda *_: released.wait(5))

    def scheduler_info(**_):
        raise OSError("the scheduler is gone")

    with pytest.raises(OSError, match="gone"):
        flow.run_in_thread(SimpleNamespace(scheduler_info=scheduler_info), "f", "tcp://s:1", [])
    released.set()


def test_a_failed_flow_is_reported_and_deleted(prove):
    """The message has the address of the server and Prefect's error."""
    message = (
        r"a flow at http://127.0.0.1:\d+/api to end COMPLETED, found FAILED: 1/2 tasks failed"
    )
    with pytest.raises(UnprovenError, match=message):
        prove(ended("FAILED", "1/2 tasks failed"))
    assert 1 == len(prove.deleted)


def test_a_server_without_the_tasks_fails(prove):
    """A worker that cannot reach the server still runs its task."""
    with pytest.raises(UnprovenError, match=r"2 completed tasks, found COMPLETED with 1"):
        prove(ended("COMPLETED", result=WORKERS), recorded=("COMPLETED", 1))


def test_a_worker_without_a_task_is_named(prove):
    """Every worker must run a task."""
    with pytest.raises(UnprovenError, match=r"a flow task on tcp://10\.0\.1\.6:1, found none"):
        prove(ended("COMPLETED", result=[WORKERS[0]] * 2))


def test_the_deadline_ends_a_flow(prove, monkeypatch):
    """Inside a flow Prefect would catch the error."""
    over = threading.Event()
    monkeypatch.setattr(flow, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr(flow, "run_flow", lambda *_: over.wait(5))
    with pytest.raises(UnprovenError, match="not proven in time"), deadline(0.2):
        flow.run_in_thread(client_of(WORKERS), "name", "tcp://scheduler:8786", WORKERS)
    over.set()


def test_a_flow_does_not_wait_for_a_busy_worker(client, training, monkeypatch):
    """Its task waits for a thread that a task of a user has."""
    over = threading.Event()
    monkeypatch.setattr(flow, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr(flow, "BUSY_SECONDS", 0.2)
    monkeypatch.setattr(flow, "run_flow", lambda *_: over.wait(5))
    workers = sorted(workers_of(client))
    with training(workers[0]):
        waits = submit(client, workers[0], str)
        with pytest.raises(BusyError) as found:
            flow.run_in_thread(client, "name", "tcp://scheduler:8786", workers)
        assert not waits.done()
    over.set()
    assert [workers[0]] == [*found.value.workers]


def test_a_task_that_another_worker_took_over_from_a_busy_one_is_no_failure(client, training):
    """The scheduler moves tasks away from a busy worker."""
    one, other = sorted(workers_of(client))
    server, state = (
        Prefect(api_url="http://x/api", managed=True),
        ended("COMPLETED", result=[other]),
    )
    with training(one), pytest.raises(BusyError):
        flow.check_state(client, server, [one, other], state)
    with pytest.raises(UnprovenError, match=f"a flow task on {one}, found none"):
        flow.check_state(client, server, [one, other], state)


def test_a_managed_server_is_waited_for(monkeypatch):
    """It starts together with the cluster; the deadline ends the wait."""
    monkeypatch.setattr(flow, "SILENT_SECONDS", 0)
    with pytest.raises(UnprovenError, match="not proven in time"), deadline(0.3):
        flow.wait_for_server(Prefect(api_url="http://127.0.0.1:1/api", managed=True))


def test_an_external_server_that_does_not_answer_fails(monkeypatch):
    """The message has the address, the error and the config key."""
    monkeypatch.setattr(flow, "SILENT_SECONDS", 0)
    with pytest.raises(
        UnprovenError, match=r"127.0.0.1:1/api/health .* found no answer"
    ) as failed:
        flow.wait_for_server(Prefect(api_url="http://127.0.0.1:1/api", managed=False))
    assert "correct prefectApiUrl" in str(failed.value)
    monkeypatch.setattr(Server, "status", 503)
    with prefect_server() as url, pytest.raises(UnprovenError, match="found an answer of 503"):
        flow.wait_for_server(Prefect(api_url=url, managed=False))


def test_a_flow_has_the_environment_of_the_deployment(tmp_path):
    """It may contain the key of an external server; the address is the deployment's."""
    file = tmp_path / "environment"
    file.write_text(json.dumps({"PREFECT_API_AUTH_STRING": "s3cret", "PREFECT_API_URL": "other"}))
    variables = flow.variables(Prefect(api_url="http://x/api", managed=False, variables_file=file))
    assert ("s3cret", "http://x/api") == tuple(
        variables[name] for name in ("PREFECT_API_AUTH_STRING", "PREFECT_API_URL")
    )


def test_an_image_without_prefect_fails(monkeypatch):
    """The check comes before any import."""
    monkeypatch.setattr(flow, "find_spec", lambda _: None)
    with pytest.raises(UnprovenError, match="to have prefect, prefect_dask, found nothing"):
        flow.check_installed()
