"""A cell of the notebook, with a stub kernel."""

import json
import time

import dask
import pytest

from health.probe import kernel
from health.probe.kernel import (
    MARK,
    CellError,
    cell_code,
    check_result,
    compute_in_notebook,
    parse,
)
from health.probe.members import workers_of

FOUND = {"workers": 4, "sums": [45] * 4, "busy": {}, "mismatches": []}


class Answers:
    """A server with one kernel; it answers a cell with messages of (type, content)."""

    def __init__(self, *messages, started=201):
        self.messages, self.started = list(messages), started
        self.requests, self.sent, self.closed = [], [], False

    def ask(self, method, path, body=""):
        self.requests.append((method, path))
        return (self.started, '{"id": "k1"}') if method == "POST" else (204, "")

    def open(self, path):
        self.requests.append(("open", path.partition("?")[0]))
        return self

    def send(self, payload):
        self.sent.append(json.loads(payload))

    def receive(self, seconds):
        assert 0 < seconds <= kernel.CELL_SECONDS
        if not self.messages:
            raise TimeoutError
        kind, content, *whose = self.messages.pop(0)
        parent = {"msg_id": whose[0] if whose else self.sent[0]["header"]["msg_id"]}
        return json.dumps({"msg_type": kind, "content": content, "parent_header": parent})

    def close(self):
        self.closed = True


def printed(**changes):
    return ("stream", {"text": f"{MARK}{json.dumps(FOUND | changes)}\n"})


IDLE = ("status", {"execution_state": "idle"})
BUSY = ("status", {"execution_state": "busy"})


def test_a_cell_that_computes_on_all_workers_is_proven():
    """The output of other cells is ignored; the kernel is deleted."""
    other = ("stream", {"text": "nothing"}, "another cell")
    server = Answers(BUSY, other, ("status", {"execution_state": "idle"}, "x"), printed(), IDLE)
    assert {"workers": 4} == compute_in_notebook(server, 4)
    channels = ("open", "/api/kernels/k1/channels")
    assert [("POST", "/api/kernels"), channels, ("DELETE", "/api/kernels/k1")] == server.requests
    assert "Client() as client" in server.sent[0]["content"]["code"]
    assert server.closed


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([("error", {"ename": "OSError", "evalue": "no scheduler"})], "OSError: no scheduler"),
        ([BUSY], "did not end within"),
        ([("stream", {"text": "hello"}), IDLE], "printed 'hello' instead"),
        ([printed(workers=3), IDLE], r"compute on 4 workers, found .*'workers': 3"),
        ([printed(sums=[45, 45, 45, 0]), IDLE], "compute on 4 workers"),
        ([printed(mismatches=["numpy 1, 2"]), IDLE], "versions are not the .*numpy 1, 2"),
    ],
)
def test_a_failed_cell_is_reported_and_its_kernel_deleted(messages, message):
    """No error leaves a kernel behind."""
    server = Answers(*messages)
    with pytest.raises(CellError, match=message):
        compute_in_notebook(server, 4)
    assert ("DELETE", "/api/kernels/k1") == server.requests[-1]
    assert server.closed


def test_a_server_that_starts_no_kernel_fails():
    """For example a server with read-only access."""
    with pytest.raises(CellError, match="expected 201, found 403"):
        compute_in_notebook(Answers(started=403), 4)


def left_by_cell(client):
    """Return the tasks of the cell that the scheduler still has."""
    return client.run_on_scheduler(
        lambda dask_scheduler: [key for key in dask_scheduler.tasks if str(key).startswith("sum")]
    )


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_cell_does_not_wait_for_busy_workers(
    cluster, client, training, monkeypatch, capsys, count
):
    """It computes on the others, reports the busy ones with their tasks, and leaves no task."""
    monkeypatch.setattr(kernel, "BUSY_SECONDS", 0.5)
    busy = sorted(workers_of(client))[:count]
    with dask.config.set({"scheduler-address": cluster.scheduler_address}), training(*busy):
        exec(cell_code(2), {"__name__": "__main__"})
        while left_by_cell(client):
            time.sleep(0.01)
    result = check_result(parse(capsys.readouterr().out), 2)
    assert 2 - count == result["workers"]
    assert count == len(result.get("busy", []))
    for worker, message in zip(busy, result.get("busy", []), strict=True):
        assert message.startswith(f"{worker} runs train for ")
