"""The state of services compared with their declaration: updates, old tasks, addresses."""

import copy

import pytest

from swarm import UnfitError
from swarm.snapshot import (
    ABSENT,
    CROWDED,
    STALE,
    STARTING,
    Snapshot,
    outdated,
    spec_hash,
    task_by_address,
    undeclared,
    unsettled,
)

SPEC_HASH = "e1d5e6a2c9f04b7a"
TEMPLATE = {
    "ContainerSpec": {"Image": "registry:5000/dask:1@sha256:0", "Args": ["dask", "worker"]},
    "Placement": {"Constraints": ["node.labels.role==data-worker"], "MaxReplicas": 2},
    "ForceUpdate": 0,
    "Runtime": "container",
}


def service(update=None, declared=SPEC_HASH, template=TEMPLATE):
    service = {
        "ID": "s1",
        "Spec": {
            "Name": "dask_worker",
            "Labels": {"dask.swarm/revision": declared},
            "TaskTemplate": template,
            "Mode": {"Replicated": {"Replicas": 4}},
        },
    }
    return service | ({"UpdateStatus": update} if update else {})


def task(template=TEMPLATE, desired="running", ip="10.0.1.7/24"):
    spec = {key: value for key, value in template.items() if key != "Runtime"}
    attachments = [{"Network": {"ID": "n1"}, "Addresses": [ip]}]
    return {
        "ID": "t1",
        "ServiceID": "s1",
        "Spec": spec,
        "DesiredState": desired,
        "NetworksAttachments": attachments,
    }


def snapshot(service=None, *tasks):
    return Snapshot(services={"dask_worker": service} if service else {}, tasks=tasks)


def waiting(now, start=None):
    return unsettled(now, start or snapshot(), {"dask_worker": SPEC_HASH})


def other(**changes):
    template = copy.deepcopy(TEMPLATE)
    return template | changes


def test_a_service_with_its_declared_spec_hash_is_settled():
    """A new service has no update, and its tasks have its spec."""
    assert {} == waiting(snapshot(service(), task()))


def test_a_service_that_does_not_exist_is_waited_for():
    """The probe starts beside the services' creation."""
    assert {"dask_worker": ABSENT} == waiting(snapshot())


def test_another_spec_hash_is_waited_for():
    """Before the update it has the old label."""
    assert {"dask_worker": STALE} == waiting(snapshot(service(declared="old")))


def test_a_service_without_labels_has_no_spec_hash():
    """The API leaves out labels that are empty."""
    existing = service()
    existing["Spec"]["Labels"] = None
    assert {"dask_worker": STALE} == waiting(snapshot(existing))


def test_only_missing_and_stale_services_are_undeclared():
    """A service that is being updated has appeared."""
    assert ["a", "b"] == undeclared({"a": ABSENT, "b": STALE, "c": "is being updated"})


@pytest.mark.parametrize("state", ["updating", "rollback_started"])
def test_an_update_is_waited_for(state):
    """Swarm reports its result after the monitoring period."""
    assert "is being updated" in waiting(snapshot(service({"State": state}))).values()


@pytest.mark.parametrize("state", ["completed", "rollback_completed"])
def test_a_finished_update_is_settled(state):
    """A rollback to the declared spec hash is as declared."""
    assert {} == waiting(snapshot(service({"State": state}), task()))


def test_a_paused_update_is_a_failure():
    """Swarm never resumes it by itself."""
    update = {"State": "paused", "Message": "update paused due to failure of task t1"}
    with pytest.raises(UnfitError, match=r"paused the update of dask_worker: .*task t1"):
        waiting(snapshot(service(update)))


def test_a_rollback_is_a_failure():
    """The service has the old label again."""
    update = {"State": "rollback_started", "Message": "update rolled back due to failure"}
    with pytest.raises(UnfitError, match="rolled back the update of dask_worker"):
        waiting(snapshot(service(update, declared="old")))


def test_a_completed_rollback_still_has_the_failed_task():
    """Swarm's message has lost its id by then, and its log has the reason."""
    update = {"State": "rollback_completed", "Message": "rollback completed"}
    before = [task(other(ForceUpdate=number)) for number in (1, 2, 3)]
    for number, attempt in enumerate(before):
        attempt |= {"ID": f"t{number}", "CreatedAt": f"2026-11-23T21:03:4{number}Z"}
        attempt["Status"] = {"State": "failed"}
    start = snapshot(service(), before[2])
    now = snapshot(service(update, declared="old"), *before)
    with pytest.raises(UnfitError, match=r"rollback completed, after the failure of task t1$"):
        unsettled(now, start, {"dask_worker": SPEC_HASH})


def test_an_earlier_rollback_is_no_failure():
    """The status of the last update stays until the next one begins."""
    existing = service({"State": "rollback_completed", "StartedAt": "then"}, declared="old")
    assert {"dask_worker": STALE} == waiting(snapshot(existing), start=snapshot(existing))


def test_the_end_of_an_earlier_rollback_is_no_failure():
    """It started before this deployment."""
    before = service({"State": "rollback_started", "StartedAt": "then"}, declared="old")
    existing = service({"State": "rollback_completed", "StartedAt": "then"}, declared="old")
    assert {"dask_worker": STALE} == waiting(snapshot(existing), start=snapshot(before))


def test_the_rollback_of_an_update_that_had_begun_is_a_failure():
    """Swarm gives both the start time of the update."""
    before = service({"State": "updating", "StartedAt": "then"})
    existing = service({"State": "rollback_started", "StartedAt": "then"}, declared="old")
    with pytest.raises(UnfitError, match="rolled back the update of dask_worker"):
        waiting(snapshot(existing), start=snapshot(before))


def test_the_rollback_of_an_update_to_another_spec_is_no_failure():
    """An interrupted deployment had started it; this deployment declares another spec."""
    before = service({"State": "updating", "StartedAt": "then"}, declared="interrupted")
    existing = service({"State": "rollback_started", "StartedAt": "then"}, declared="old")
    assert {"dask_worker": STALE} == waiting(snapshot(existing), start=snapshot(before))


@pytest.mark.parametrize(
    ("states", "awaited"),
    [
        ([], STARTING),
        (["starting"], STARTING),
        (["running", "preparing"], STARTING),
        (["running"], None),
        (["running", "running"], None),
    ],
)
def test_services_that_the_probe_cannot_prove_must_be_healthy(states, awaited):
    """All tasks that should run must run, and at least one."""
    existing = service() | {"Spec": service()["Spec"] | {"Mode": {"Global": {}}}}
    tasks = [task() | {"Status": {"State": state}} for state in states]
    now = snapshot(existing, *tasks, task(desired="shutdown") | {"Status": {"State": "failed"}})
    waiting = unsettled(now, snapshot(), {"dask_worker": SPEC_HASH}, ["dask_worker"])
    assert awaited == waiting.get("dask_worker")


def test_all_tasks_of_a_service_must_be_healthy():
    """One of two tasks may not exist yet."""
    mode = {"Mode": {"Replicated": {"Replicas": 2}}}
    running = task() | {"Status": {"State": "running"}}
    now = snapshot(service() | {"Spec": service()["Spec"] | mode}, running)
    waiting = unsettled(now, snapshot(), {"dask_worker": SPEC_HASH}, ["dask_worker"])
    assert {"dask_worker": STARTING} == waiting


def test_old_tasks_are_waited_for():
    """Before the first step of an update the service has no update status."""
    old = task(other(ForceUpdate=1))
    assert {"dask_worker": "still runs old tasks"} == waiting(snapshot(service(), old))


@pytest.mark.parametrize(
    ("mode", "awaited"),
    [({"Replicated": {"Replicas": 1}}, {"dask_worker": CROWDED}), ({"Global": {}}, {})],
)
def test_a_service_with_surplus_tasks_is_not_as_declared(mode, awaited):
    """Swarm can replace a task twice if it fails while its service is being updated."""
    crowded = service() | {"Spec": service()["Spec"] | {"Mode": mode}}
    assert awaited == waiting(snapshot(crowded, task(), task()))
    assert {} == waiting(snapshot(crowded, task(), task(desired="shutdown")))


def test_old_tasks_that_are_stopping_do_not_count():
    """The probe waits for old workers itself."""
    old = task(other(ForceUpdate=1), desired="shutdown")
    assert {} == waiting(snapshot(service(), old, task()))


@pytest.mark.parametrize(
    "changed",
    [
        {"Constraints": ["node.labels.role!=master"], "MaxReplicas": 2},
        {"Constraints": ["node.labels.role==data-worker"], "MaxReplicas": 3},
        {"Platforms": [{"OS": "linux", "Architecture": "arm64"}]},
        None,
    ],
)
def test_a_changed_placement_does_not_outdate_a_task(changed):
    """Swarm keeps a task whose node meets the new placement."""
    assert not outdated(task(other(Placement=changed)), service())


def test_a_task_with_another_spec_is_outdated():
    """Only its placement may differ."""
    changed = other(Placement={"MaxReplicas": 3}, ForceUpdate=1)
    assert outdated(task(changed), service())


def test_addresses_are_those_of_the_network_and_of_wanted_tasks():
    """The address of a stopped task may belong to another task."""
    kept, stopped = task(), task(ip="10.0.1.8/24", desired="shutdown")
    assert {"10.0.1.7": kept} == task_by_address([kept, stopped], "n1")
    assert {} == task_by_address([kept], "n2")
    assert {} == task_by_address([{**kept, "NetworksAttachments": None}], "n1")


def test_two_specs_have_two_hashes():
    """A short hash would hide drift."""
    hashes = {spec_hash({"Spec": {"Name": str(number)}}) for number in range(1000)}
    assert 1000 == len(hashes)
    assert {16} == {len(spec) for spec in hashes}
