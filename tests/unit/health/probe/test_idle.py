"""The scheduler's tasks, asked over HTTP until there are none."""

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest

from health.probe import idle
from tests.conftest import serving

NONE = {"processing": 0, "waiting": 0, "unrunnable": 0}


@pytest.fixture(autouse=True)
def short_times(monkeypatch):
    """Wait for milliseconds."""
    monkeypatch.setattr(idle, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(idle, "QUIET_SECONDS", 0.02)


@contextmanager
def scheduler(*answers):
    """Serve these answers one after the other, the last one for ever; yield the port."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            answer = left.pop(0) if len(left) > 1 else left[0]
            known = self.path == "/json/counts.json" and answer is not None
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

    with serving(Handler) as server:
        yield server.server_port


def test_it_waits_until_no_task_runs_or_waits(capsys):
    """Every change of the number of tasks is shown."""
    busy = [NONE | {"processing": 2, "waiting": 5}, NONE | {"unrunnable": 1}]
    with scheduler(*busy, NONE) as port:
        idle.main(json.dumps({"host": "127.0.0.1", "port": port, "seconds": 10}))
    shown = capsys.readouterr().out
    assert shown.index("2 tasks run, 5 wait") < shown.index("0 tasks run, 1 wait")
    assert shown.endswith('dask-health: {"proof": {"idle": true}}\n')


def test_a_pause_between_two_tasks_is_not_idle():
    """A program that waits for each result has no task for a moment."""
    busy = NONE | {"processing": 1}
    with scheduler(*[NONE, busy] * 100) as port:
        assert "1 tasks run, 0 wait" == idle.wait_until_idle("127.0.0.1", port, 0.1)


def test_the_deadline_ends_the_wait(capsys):
    """The failure has the tasks that are left."""
    with scheduler(NONE | {"processing": 3}) as port:
        idle.main(json.dumps({"host": "127.0.0.1", "port": port, "seconds": 0.02}))
    assert '"failure": "3 tasks run, 0 wait"' in capsys.readouterr().out


def test_a_scheduler_that_does_not_answer_is_not_idle():
    """It may have lost its routes, or it is gone."""
    with scheduler(None) as port:
        assert idle.wait_until_idle("127.0.0.1", port, 0.02).endswith("counts.json answers 404")
    assert "does not answer (" in idle.wait_until_idle("127.0.0.1", port, 0.02)
