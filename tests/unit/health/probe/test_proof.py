"""The proof from its order to its outcome, of a real cluster in this process."""

import json
import time

import pytest

from health.probe import UnprovenError, members, proof
from health.probe.deadline import deadline
from health.probe.members import MovedError
from health.probe.messages import MARK
from health.probe.proof import main

GIB = 2**30


def test_a_deadline_ends_any_wait():
    """Also one inside a library, which is why it is an alarm."""
    with pytest.raises(UnprovenError, match="not proven in time"), deadline(0.05):
        time.sleep(5)


def order(cluster, **changes):
    expected = {"workers": 2, "threads": 2, "memory_bytes": 2 * GIB}
    told = {"deadline_seconds": 20, "scheduler_address": cluster.scheduler_address}
    told |= {"expected": expected, "notebook": None, "packages": ["pytest>=8"], "use": True}
    return json.dumps(told | changes)


def said(capsys):
    lines = capsys.readouterr().out.splitlines()
    return [json.loads(line.removeprefix(MARK)) for line in lines]


def test_a_cluster_is_proven(cluster, capsys):
    """The proof has what was asked for; nothing crosses hosts where there is one."""
    main(order(cluster))
    proof = said(capsys)[-1]["proof"]
    assert (2, 2, 2 * GIB, 2) == tuple(
        proof[key] for key in ("workers", "threads", "memory_bytes", "tasks")
    )
    assert {"pytest"} == proof["packages"].keys()
    assert [] == proof["routes"]
    assert sorted(each.address for each in cluster.workers.values()) == proof["members"]


def test_too_few_workers_are_waited_for(cluster, capsys):
    """Until the deadline; the last progress says how many there are."""
    expected = {"workers": 3, "threads": 3, "memory_bytes": 3 * GIB}
    main(order(cluster, expected=expected, deadline_seconds=1))
    *_, counted, failure = said(capsys)
    assert "2 of 3 workers" == counted["progress"]
    assert 2 == len(counted["members"])
    assert "not proven in time" == failure["failure"]


def test_too_many_workers_are_refused(cluster, capsys, monkeypatch):
    """After they have had the time to leave."""
    monkeypatch.setattr(members, "SETTLING_SECONDS", 0.3)
    expected = {"workers": 1, "threads": 1, "memory_bytes": GIB}
    main(order(cluster, expected=expected))
    assert "expected 1 workers, found 2" in said(capsys)[-1]["failure"]


def test_a_missing_package_is_named(cluster, capsys):
    """With the workers that lack it."""
    main(order(cluster, packages=["no-such-package"]))
    assert "expected no-such-package, found nothing on tcp://" in said(capsys)[-1]["failure"]


def test_a_worker_that_goes_during_the_proof_starts_it_again(cluster, monkeypatch, capsys):
    """Whatever distributed raises then; with the same workers it is a failure."""
    proofs = iter([OSError("lost"), MovedError(), {"workers": 2}])

    def prove_members(*_):
        proof = next(proofs)
        if isinstance(proof, Exception):
            raise proof
        return proof

    monkeypatch.setattr(proof, "prove_members", prove_members)
    monkeypatch.setattr(proof, "moved_or", lambda *_: MovedError())
    main(order(cluster))
    assert {"workers": 2} == said(capsys)[-1]["proof"]


def test_an_error_that_no_worker_explains_is_a_failure(cluster, monkeypatch, capsys):
    """All workers are still there."""
    monkeypatch.setattr(proof, "visit", lambda *_: 1 / 0)
    main(order(cluster))
    assert "the proof broke off: ZeroDivisionError" in said(capsys)[-1]["failure"]
