"""What was changed by hand since the last proof is found, whatever it was and however often."""

import pytest

from swarm import drift
from swarm.proof_record import PROOF_RECORD
from swarm.snapshot import spec_hash


def service(name="dask_worker", version=5, replicas=4):
    spec = {"Name": name, "Mode": {"Replicated": {"Replicas": replicas}}}
    return {"ID": name, "Version": {"Index": version}, "Spec": spec}


def noted(*services, at="2026-01-01", identity="n1", name=f"{PROOF_RECORD}-1a2b3c4"):
    proof = {"imprints": {each["Spec"]["Name"]: spec_hash(each) for each in services}}
    spec = {"Name": name, "Data": drift.note(proof, "a1")}
    return {"ID": identity, "CreatedAt": at, "Spec": spec}


def test_what_is_as_it_was_proven_is_not_touched():
    """A new version of the same spec, as a finished update leaves it, is no change."""
    assert not drift.touched([noted(service())], [service(version=9), service("other")])


def test_a_changed_service_is_named():
    """With its version, so that the same change made again is another one."""
    proven = noted(service())
    assert "dask_worker 7" == drift.touched([proven], [service(version=7, replicas=2)])
    assert "dask_worker 9" == drift.touched([proven], [service(version=9, replicas=2)])


def test_a_removed_service_is_named():
    """Removed again after the next proof it is told apart from the first time."""
    first = drift.touched([noted(service())], [])
    second = drift.touched([noted(service(), identity="n2")], [])
    assert ("dask_worker gone since n1", "dask_worker gone since n2") == (first, second)


def test_the_newest_note_counts():
    """While one proof's note takes the place of another's there are two."""
    notes = [noted(service(), at="2026-02-01"), noted(service(replicas=1), at="2026-01-01")]
    assert not drift.touched(notes, [service()])


@pytest.mark.parametrize("configs", [[], [noted(service(replicas=1), name="dask-other-1a2b3c4")]])
def test_without_a_proof_there_is_nothing_to_compare(configs):
    """The first deployment, or one whose proof has failed, runs the probe anyway."""
    assert not drift.touched(configs, [service()])


def test_each_proof_leaves_a_note_of_its_own():
    """Also of the same services, so that it can be told when something is gone again."""
    assert drift.note({}, "a1") != drift.note({}, "a2")


def test_the_imprints_are_not_shown_to_people():
    """The stack's output is what was proven."""
    assert {"workers": 4} == drift.without_imprints({"workers": 4, "imprints": {"a": "1"}})


def test_a_proof_of_an_older_program_has_no_imprints():
    """Its note says nothing, and the new program proves again anyway."""
    spec = {"Name": f"{PROOF_RECORD}-1", "Data": drift.note({"workers": 4}, "a1")}
    assert not drift.touched([{"ID": "n", "CreatedAt": "", "Spec": spec}], [service()])
