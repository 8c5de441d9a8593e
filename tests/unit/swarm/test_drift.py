"""A service that was changed by hand since its last proof is detected."""

import pytest

from swarm import drift
from swarm.proof_record import newest, record_data, without_spec_hashes
from swarm.snapshot import spec_hash


def service(name="dask_worker", version=5, replicas=4):
    spec = {"Name": name, "Mode": {"Replicated": {"Replicas": replicas}}}
    return {"ID": name, "Version": {"Index": version}, "Spec": spec}


def drifted(configs, services, **options):
    """Return the services of the default cluster that drifted."""
    return drift.drifted(configs, services, "dask", **options)


def record(*services, at="2026-01-01", identity="n1", name="dask-health-proven-1a2b3c4"):
    proof = {
        "imprints": {described["Spec"]["Name"]: spec_hash(described) for described in services}
    }
    spec = {"Name": name, "Data": record_data(proof, "a1")}
    return {"ID": identity, "CreatedAt": at, "Spec": spec}


def test_a_service_as_it_was_proven_did_not_drift():
    """A finished update makes a new version of the same spec, which is not drift."""
    assert not drifted([record(service())], [service(version=9), service("other")])


def test_a_changed_service_is_named():
    """With its version, so that the same change a second time differs from the first."""
    proven = record(service())
    assert "dask_worker 7" == drifted([proven], [service(version=7, replicas=2)])
    assert "dask_worker 9" == drifted([proven], [service(version=9, replicas=2)])


def test_a_removed_service_is_named():
    """A second removal, after another proof, differs from the first."""
    first = drifted([record(service())], [])
    second = drifted([record(service(), identity="n2")], [])
    assert ("dask_worker gone since n1", "dask_worker gone since n2") == (first, second)


def test_the_newest_record_counts():
    """While a new record replaces the old record, both exist."""
    records = [record(service(), at="2026-02-01"), record(service(replicas=1), at="2026-01-01")]
    assert not drifted(records, [service()])


@pytest.mark.parametrize("configs", [[], [record(service(replicas=1), name="dask-other-1a2b3c4")]])
def test_without_a_proof_there_is_nothing_to_compare(configs):
    """The first deployment, or a deployment after a failed proof, runs the probe anyway."""
    assert not drifted(configs, [service()])


def test_each_proof_has_a_different_record():
    """Even of the same services, so that a second removal differs from the first."""
    assert record_data({}, "a1") != record_data({}, "a2")


def test_the_spec_hashes_are_not_shown_to_people():
    """The stack's output shows the proof only."""
    assert {"workers": 4} == without_spec_hashes({"workers": 4, "imprints": {"a": "1"}})


def test_a_proof_of_an_older_program_has_no_spec_hashes():
    """Its record is empty, and the new program runs the proof again anyway."""
    spec = {"Name": "dask-health-proven-1", "Data": record_data({"workers": 4}, "a1")}
    assert not drifted([{"ID": "n", "CreatedAt": "", "Spec": spec}], [service()])


@pytest.mark.parametrize("cluster", ["blue", "dask-2", "dask-health-proven"])
def test_the_record_of_another_cluster_does_not_count(cluster):
    """It is newer, and knows nothing of this cluster's services."""
    name = f"{cluster}-health-proven-1a2b3c4"
    own = record(service(), at="2026-01-01")
    other = record(service(replicas=1), at="2026-02-01", name=name)
    assert own == newest([own, other], "dask")
    assert "dask_worker 5" == drifted([own, other], [service(replicas=2)])


def test_a_config_whose_name_only_resembles_a_record_is_none():
    """Somebody else's config may have any content."""
    foreign = {"ID": "f", "CreatedAt": "2099", "Spec": {"Name": "dask-health-proven2-1a2b3c4"}}
    assert newest([foreign], "dask") is None


def test_missing_workers_are_proven_once_they_can_run():
    """The next `up` proves all workers; while their node is down it has nothing to do."""
    data = record_data({"imprints": {}, "missing": "2 of 4 workers run"}, "a1")
    spec = {"Name": "dask-health-proven-1", "Data": data}
    incomplete = {"ID": "n7", "CreatedAt": "2026-01-02", "Spec": spec}
    assert "workers that were missing in n7" == drifted([incomplete], [])
    assert not drifted([incomplete], [], can_be_complete=False)
