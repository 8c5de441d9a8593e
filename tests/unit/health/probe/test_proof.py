"""The steps of the proof, with a real cluster in this process."""

import json
import time
from types import SimpleNamespace

import pytest

from health.probe import UnprovenError, busy, members, proof, versions, worker_tasks
from health.probe.busy import BusyError
from health.probe.deadline import deadline
from health.probe.members import MovedError, WorkerError, workers_of
from health.probe.messages import MARK, ProbeRequest
from health.probe.proof import main

GIB = 2**30


def test_the_deadline_ends_every_wait():
    """The alarm also ends a call inside a library."""
    with pytest.raises(UnprovenError, match="not proven in time"), deadline(0.05):
        time.sleep(5)


def request(cluster, **changes):
    expected = {"workers": 2, "threads": 2, "memory_bytes": 2 * GIB}
    fields = {"deadline_seconds": 20, "scheduler_address": cluster.scheduler_address}
    fields |= {"expected": expected, "notebook": None, "packages": ["pytest>=8"], "use": True}
    return json.dumps(fields | changes)


def messages(capsys):
    lines = capsys.readouterr().out.splitlines()
    return [json.loads(line.removeprefix(MARK)) for line in lines]


def test_a_cluster_is_proven(cluster, capsys):
    """A single engine has no transfer between engines."""
    main(request(cluster))
    proof = messages(capsys)[-1]["proof"]
    assert (2, 2, 2 * GIB, 2) == tuple(
        proof[key] for key in ("workers", "threads", "memory_bytes", "tasks")
    )
    assert {"pytest"} == proof["packages"].keys()
    assert [] == proof["routes"]
    assert sorted(worker.address for worker in cluster.workers.values()) == proof["members"]


def test_too_few_workers_are_waited_for(cluster, capsys):
    """Until the deadline; the last progress has their number."""
    expected = {"workers": 3, "threads": 3, "memory_bytes": 3 * GIB}
    main(request(cluster, expected=expected, deadline_seconds=1))
    *_, progress, failure = messages(capsys)
    assert "2 of 3 workers" == progress["progress"]
    assert 2 == len(progress["members"])
    assert "not proven in time" == failure["failure"]


def test_too_many_workers_are_refused(cluster, capsys, monkeypatch):
    """They have some time to leave first."""
    monkeypatch.setattr(members, "SETTLING_SECONDS", 0.3)
    expected = {"workers": 1, "threads": 1, "memory_bytes": GIB}
    main(request(cluster, expected=expected))
    assert "expected 1 workers, found 2" in messages(capsys)[-1]["failure"]


def test_a_version_with_a_known_hole_fails(cluster, capsys, monkeypatch):
    """Although it is the same everywhere."""
    monkeypatch.setitem(versions.SAFE, "distributed", ("9999", "CVE-1"))
    main(request(cluster))
    failure = messages(capsys)[-1]["failure"]
    assert "expected distributed 9999 or newer" in failure
    assert "CVE-1" in failure


def test_a_missing_package_fails(cluster, capsys):
    """The message has the workers that lack it."""
    main(request(cluster, packages=["no-such-package"]))
    assert "expected no-such-package, found nothing on tcp://" in messages(capsys)[-1]["failure"]


def test_a_worker_that_goes_away_starts_the_proof_again(cluster, monkeypatch, capsys):
    """Every error of distributed starts it again, and every task without a result."""
    proofs = iter([OSError("lost"), MovedError(), WorkerError("no result"), {"workers": 2}])

    def prove_members(*_):
        proof = next(proofs)
        if isinstance(proof, Exception):
            raise proof
        return proof

    monkeypatch.setattr(proof, "prove_members", prove_members)
    monkeypatch.setattr(proof, "moved", lambda *_: True)
    main(request(cluster))
    assert {"workers": 2} == messages(capsys)[-1]["proof"]


@pytest.mark.parametrize(("count", "used"), [(1, ["bucket", "flow"]), (2, [])])
def test_workers_that_are_busy_with_tasks_of_users_are_no_failure(
    cluster, client, training, monkeypatch, capsys, count, used
):
    """The other workers run all steps; the proof has the busy workers and their tasks."""
    monkeypatch.setattr(busy, "BUSY_SECONDS", 0.2)
    done = []
    monkeypatch.setattr(proof, "prove_bucket", lambda *given: done.append(("bucket", given[1])))
    monkeypatch.setattr(proof, "prove_flow", lambda *given: done.append(("flow", given[3])))
    workers = sorted(workers_of(client))
    trains, free = workers[:count], workers[count:]
    options = {"object_store": {"bucket": "b", "endpoint": ""}}
    options["prefect"] = {"api_url": "http://x/api", "managed": True}
    with training(*trains):
        main(request(cluster, **options))
    proven = messages(capsys)[-1]["proof"]
    assert (2, 2 - count, workers) == tuple(proven[key] for key in ("workers", "tasks", "members"))
    assert trains == sorted(proven["busy"])
    assert all(tasks.startswith("train for ") for tasks in proven["busy"].values())
    assert used == [step for step, _ in done]
    assert all(free == sorted(given) for _, given in done)


def test_a_busy_worker_without_a_package_fails(cluster, client, training, monkeypatch, capsys):
    """It answers this beside its tasks."""
    monkeypatch.setattr(busy, "BUSY_SECONDS", 0.2)
    monkeypatch.setattr(worker_tasks, "is_installed", lambda name: name != "_pytest")
    workers = sorted(workers_of(client))
    with training(*workers):
        main(request(cluster))
    assert "to import pytest>=8, found no module _pytest" in messages(capsys)[-1]["failure"]


def test_a_busy_worker_that_leaves_is_forgotten(cluster, monkeypatch, capsys):
    """It cannot answer any more."""
    given = []

    def prove_members(_, members, __, busy):
        given.append(dict(busy))
        if len(given) == 1:
            raise BusyError({"tcp://gone:1": "train for 12 s", **dict.fromkeys(members, "t")})
        return {"workers": 2}

    monkeypatch.setattr(proof, "prove_members", prove_members)
    main(request(cluster))
    assert {"workers": 2} == messages(capsys)[-1]["proof"]
    assert {worker.address for worker in cluster.workers.values()} == given[1].keys()


def test_the_certificates_of_busy_workers_are_proven_too(cluster, client, monkeypatch):
    """A stranger needs no free thread."""
    monkeypatch.setattr(proof, "prove_tls", lambda _, workers, __: workers)
    tls = {"dask_config": {}, "foreign_file": "foreign.pem"}
    parsed = ProbeRequest.parse(request(cluster, use=False, tls=tls))
    known = workers_of(client)
    proven = proof.prove_members(client, known, parsed, {min(known): "train for 12 s"})
    assert sorted(known) == proven["certificates"]


def test_an_error_with_the_same_workers_is_a_failure(cluster, monkeypatch, capsys):
    """No worker came or went."""
    monkeypatch.setattr(proof, "run_tasks", lambda *_: 1 / 0)
    main(request(cluster))
    assert "the proof broke off: ZeroDivisionError" in messages(capsys)[-1]["failure"]


def test_a_worker_that_comes_during_the_last_step_starts_the_proof_again(
    cluster, client, monkeypatch
):
    """Nothing was proven of it."""
    known = workers_of(client)
    monkeypatch.setattr(members, "workers_of", lambda _: {**known, "tcp://new:1": {}})
    parsed = ProbeRequest.parse(request(cluster))
    with pytest.raises(MovedError):
        proof.prove_members(client, known, parsed, {})


def test_a_worker_that_does_not_answer_the_scheduler_fails(client):
    """Its versions are not known."""
    known = workers_of(client)
    silent = min(known)
    answers = {worker: {} for worker in known if worker != silent}
    with pytest.raises(UnprovenError, match=f"no answer from {silent}"):
        members.check_answers(known, answers)


@pytest.mark.parametrize("use", [True, False])
def test_what_users_do_is_proven_only_on_request(cluster, client, monkeypatch, use):
    """Arrays and frames, the bucket, and a flow; a quick proof leaves them out."""
    done = []
    monkeypatch.setattr(proof, "exchange", lambda *_: done.append("exchange"))
    monkeypatch.setattr(proof, "prove_bucket", lambda *_: done.append("bucket") or "b")
    monkeypatch.setattr(proof, "prove_flow", lambda *_: done.append("flow") or "f")
    store = {"bucket": "dask", "endpoint": ""}
    prefect = {"api_url": "http://x/api", "managed": True}
    text = request(cluster, use=use, object_store=store, prefect=prefect)
    proven = proof.prove_members(client, workers_of(client), ProbeRequest.parse(text), {})
    assert (["exchange", "bucket", "flow"] if use else []) == done
    assert ({"object_store": "b", "prefect": "f"} if use else {}).items() <= proven.items()


@pytest.mark.parametrize("cell", [True, False])
def test_the_notebook_is_proven_after_the_cluster(monkeypatch, cell):
    """Its login, and on request a cell on the workers that there are."""
    done, asked = [], []
    names = ("wait_for_port", "connect", "prove_cluster", "wait_for_notebook", "compute")
    for step in (*names, "prove_closed", "prove_keyed"):
        client = SimpleNamespace(close=lambda **_: done.append("close"))
        answer = client if step == "connect" else {"workers": 4}
        monkeypatch.setattr(
            proof,
            step,
            lambda *given, step=step, answer=answer: (
                asked.append((step, given)) or done.append(step) or answer
            ),
        )
    notebook = {"url": "http://x", "kind": "token", "secret_file": "f", "cell": cell}
    proof.prove(
        ProbeRequest.parse(
            request(
                SimpleNamespace(scheduler_address="tcp://x:1"),
                notebook=notebook,
                closed_ports=["x:1"],
                closed_urls=["http://x"],
            )
        )
    )
    steps = ["wait_for_port", "connect", "prove_cluster", "close", "wait_for_notebook"]
    assert [*steps, *(["compute"] if cell else []), "prove_closed", "prove_keyed"] == done
    assert [(("x:1",),), (("http://x",),)] == [asked[-2][1], asked[-1][1]]
    assert not cell or 4 == dict(asked)["compute"][1]
