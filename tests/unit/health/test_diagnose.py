"""The report about the Swarm's tasks: states, causes, fixes, logs."""

import re

import pytest

from health.diagnose import Evidence, clean, missing_slots, report, unrecoverable
from images.nanny_preload import EARLY_HERE, REFUSED
from swarm.nodes import matches
from swarm.snapshot import Snapshot

IMAGE = "registry:5000/dask:1@sha256:0"
TEMPLATE = {
    "ContainerSpec": {
        "Image": IMAGE,
        "Args": ["dask-worker", "tcp://scheduler:8786"],
        "Healthcheck": {"Test": ["CMD", "bash", "-c", "exit 1"]},
    },
    "Resources": {
        "Limits": {"NanoCPUs": 500_000_000, "MemoryBytes": 2**30},
        "Reservations": {"NanoCPUs": 500_000_000, "MemoryBytes": 2**30},
    },
    "Placement": {"Constraints": ["node.labels.role==data-worker"], "MaxReplicas": 2},
}
NO_NODE = "no suitable node (scheduling constraints not satisfied on 3 nodes)"
NO_ROOM = (
    "no suitable node (insufficient resources on 2 nodes; "
    "scheduling constraints not satisfied on 1 node)"
)


def node(name, role=None, availability="active", memory=4 * 2**30):
    return {
        "ID": f"id-{name}",
        "Spec": {
            "Labels": {"role": role} if role else {},
            "Role": "worker",
            "Availability": availability,
        },
        "Description": {
            "Hostname": name,
            "Platform": {"OS": "linux", "Architecture": "x86_64"},
            "Resources": {"NanoCPUs": 2 * 10**9, "MemoryBytes": memory},
            "Engine": {"EngineVersion": "20.10.24"},
        },
        "Status": {"State": "ready", "Addr": "10.77.0.12"},
    }


NODES = [node("master", "master"), node("data-1", "data-worker"), node("data-2")]


def service(replicas=1):
    mode = {"Replicated": {"Replicas": replicas}}
    return {"ID": "s1", "Spec": {"Name": "dask_worker", "TaskTemplate": TEMPLATE, "Mode": mode}}


def task(state, error="", slot=1, *, desired="running", at="2026-11-23T21:03:46Z", where="data-1"):
    return {
        "ID": f"{state}-{slot}-{at}",
        "ServiceID": "s1",
        "Slot": slot,
        "Spec": TEMPLATE,
        "CreatedAt": at,
        "NodeID": f"id-{where}" if where else None,
        "DesiredState": desired,
        "Status": {"State": state, "Message": "started"} | ({"Err": error} if error else {}),
    }


def failed(error, slot=1, state="failed"):
    return [
        task(state, error, slot, desired="shutdown", at=f"2026-11-23T21:03:4{attempt}Z")
        for attempt in range(3)
    ]


def snapshot(*tasks, replicas=1):
    return Snapshot(services={"dask_worker": service(replicas)}, tasks=tasks)


def reported(*tasks, nodes=NODES, replicas=1, template=TEMPLATE, **evidence):
    tasks = [task | {"Spec": template} for task in tasks] if template != TEMPLATE else tasks
    spec = service(replicas)["Spec"] | {"TaskTemplate": template}
    now = Snapshot(services={"dask_worker": service(replicas) | {"Spec": spec}}, tasks=tasks)
    all_evidence = Evidence(now=now, nodes=nodes, tasks=tasks, **({"logs": {}} | evidence))
    return report("Headline.", ["dask_worker"], all_evidence)


def test_a_working_service_is_not_mentioned():
    """The report has only the failures."""
    assert reported(task("running")) == "Headline."


def test_a_missing_service_is_mentioned():
    """A service that was never created has no tasks."""
    now = Snapshot(services={}, tasks=())
    evidence = Evidence(now=now, nodes=NODES, tasks=(), logs={})
    assert "dask_worker: the service does not exist" in report("H", ["dask_worker"], evidence)


def test_every_missing_slot_is_reported():
    """Also a slot for which Swarm has created no task."""
    message = reported(task("running"), task("preparing", slot=2), replicas=3)
    assert "dask_worker: 1 of 3 tasks work" in message
    assert "dask_worker.2: preparing on data-1" in message
    assert "dask_worker.3: no task created yet" in message
    assert "dask_worker.1" not in message


def test_very_many_missing_slots_are_cut_short():
    """Users do not read a thousand lines."""
    message = reported(replicas=1000)
    assert "and 980 more" in message
    assert message.count("\n") < 30


def test_a_missing_label_is_reported_with_its_fix():
    """The labels of the nodes show a typing error."""
    message = reported(
        task("pending", NO_NODE, where=None), nodes=[node("data-1", "data"), NODES[2]]
    )
    assert f"dask_worker.1: pending on no node: {NO_NODE}" in message
    assert "no node carries label role=data-worker" in message
    assert "data-1 has role=data; data-2 has no label" in message
    assert "docker node update --label-add role=data-worker <node>" in message


def test_a_constraint_on_a_hostname_is_reported():
    """No label can be added for it."""
    unplaced = {**service(), "Spec": {**service()["Spec"]}}
    placement = {"Constraints": ["node.hostname==nowhere"]}
    unplaced["Spec"]["TaskTemplate"] = TEMPLATE | {"Placement": placement}
    pending = task("pending", NO_NODE, where=None) | {"Spec": unplaced["Spec"]["TaskTemplate"]}
    now = Snapshot(services={"dask_worker": unplaced}, tasks=(pending,))
    assert "no node meets node.hostname==nowhere" in unrecoverable(now, ["dask_worker"], NODES)


def test_exhausted_nodes_are_reported_with_their_free_resources():
    """Only the nodes that match the constraints count."""
    other = task("running", where="data-1")
    message = reported(task("pending", NO_ROOM, slot=2, where=None), other, replicas=2)
    assert "each task asks for 0.5 CPU and 1GiB" in message
    assert "data-1 has 1.5 CPU and 3GiB unreserved" in message
    assert "data-2" not in message


def waiting_update(order, *others, error=NO_ROOM, nodes=NODES):
    """Return the report about a new task that waits for room beside the old task."""
    spec = service()["Spec"] | {"UpdateConfig": {"Order": order}}
    pending = task("pending", error, where=None)
    tasks = [pending, *(other | {"Spec": {**TEMPLATE, "ForceUpdate": 1}} for other in others)]
    now = Snapshot(services={"dask_worker": service() | {"Spec": spec}}, tasks=tuple(tasks))
    evidence = Evidence(now=now, nodes=nodes, tasks=tasks, logs={})
    return report("Headline.", ["dask_worker"], evidence)


def test_an_update_without_room_beside_the_old_task_is_explained():
    """Less to reserve is no choice for a scheduler: the room must be there twice."""
    message = waiting_update("start-first", task("running"))
    assert "pending on no node, while the task from before the update still works" in message
    cause = (
        "asks for 0.5 CPU and 1GiB, and the old task keeps as much until the new task is healthy"
    )
    assert f"{cause}; data-1 has 1.5 CPU and 3GiB unreserved" in message
    assert "fix:   docker node ps <node> lists what has the room: run less of it" in message


@pytest.mark.parametrize(
    ("order", "old"),
    [
        ("stop-first", [task("running")]),
        ("start-first", []),
        ("start-first", [task("running") | {"ServiceID": "other"}]),
        ("start-first", [task("failed", desired="shutdown")]),
    ],
)
def test_only_a_task_that_still_works_keeps_its_room(order, old):
    """Without one the task lacks room as at its first start."""
    message = waiting_update(order, *old)
    assert "each task asks for 0.5 CPU and 1GiB; data-1 has" in message
    assert "fix:   reserve less, run fewer tasks, or add a node" in message


def test_a_node_that_is_away_has_no_room():
    """Its tasks have ended, so all of it would seem to be free."""
    away = node("data-2", "data-worker", availability="drain")
    error = "no suitable node (insufficient resources on 1 node; 1 node not available)"
    message = waiting_update("start-first", error=error, nodes=[*NODES[:2], away])
    assert "data-1 has 2 CPU and 4GiB unreserved; data-2 is ready, drain" in message
    assert "data-2 has" not in message
    assert "fix:   reserve less, run fewer tasks, or bring a node back" in message


def test_a_full_node_is_reported():
    """Swarm's error does not have the limit per node."""
    error = "no suitable node (max replicas per node limit exceed)"
    message = reported(task("pending", error, where=None))
    assert "at most 2 tasks may run on one node, and data-1 can take them" in message


def test_a_drained_node_is_reported():
    """It has the label, and takes no task."""
    error = (
        "no suitable node (1 node not available for new tasks; "
        "scheduling constraints not satisfied on 2 nodes)"
    )
    drained = node("data-1", "data-worker", availability="drain")
    message = reported(task("pending", error, where=None), nodes=[drained, NODES[0]])
    assert "data-1 is ready, drain" in message
    assert "docker node update --availability active" in message


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (f"No such image: {IMAGE}", "image not found"),
        ("task: non-zero exit (137)", "killed, most likely out of memory: limit 1GiB"),
        ("task: non-zero exit (137): dockerexec: unhealthy container", "health check keeps"),
        ("task: non-zero exit (127)", "no such program: dask-worker tcp://scheduler:8786"),
        (
            'OCI runtime create failed: exec: "dask-worker": executable file not found in $PATH',
            "no such program: dask-worker",
        ),
        ("task: non-zero exit (3)", "ended with status 3"),
        ("no suitable node (unsupported platform on 3 nodes)", "another platform"),
    ],
)
def test_known_errors_are_translated(error, cause):
    """The report has Swarm's error and its cause."""
    message = reported(*failed(error))
    assert error in message
    assert cause in message.partition("cause: ")[2]
    assert "failed on data-1, 3 times" in message


def test_a_platform_that_no_node_has_is_explained():
    """Nodes without the label, and of another platform, cannot help."""
    placement = TEMPLATE["Placement"] | {"Platforms": [{"OS": "linux", "Architecture": "arm64"}]}
    error = "no suitable node (unsupported platform on 1 node)"
    pending = task("pending", error, where=None)
    message = reported(pending, template=TEMPLATE | {"Placement": placement})
    assert "cause: the nodes have another platform than linux/arm64: linux/amd64" in message
    assert "fix:   use an image for linux/amd64, and set platform to it" in message
    # As Docker's client sends an image for 32-bit ARM, and an attestation.
    others = [{"OS": "linux"}, {"OS": "unknown", "Architecture": "unknown"}]
    placement["Platforms"] = others + placement["Platforms"]
    message = reported(pending, template=TEMPLATE | {"Placement": placement})
    assert "another platform than linux/ or linux/arm64: linux/amd64" in message


def test_an_absent_node_of_another_platform_is_not_waited_for():
    """Its return would not help."""
    placement = TEMPLATE["Placement"] | {"Platforms": [{"OS": "linux", "Architecture": "amd64"}]}
    other = node("data-2", "data-worker", availability="drain")
    other["Description"]["Platform"]["Architecture"] = "aarch64"
    gone = node("data-1", "data-worker", availability="drain")
    error = "no suitable node (2 nodes not available for new tasks)"
    pending = task("pending", error, where=None)
    template = TEMPLATE | {"Placement": placement}
    message = reported(pending, nodes=[other, gone], template=template)
    assert "data-1 is ready, drain" in message
    assert "data-2" not in message


def test_an_unknown_error_is_reported_unchanged():
    """The report does not guess a cause."""
    message = reported(*failed("something new"))
    assert "something new" in message
    assert "cause" not in message


def test_the_last_error_of_a_slot_is_reported():
    """The newest task does not have the error of the task before it."""
    newest = task("preparing", at="2026-11-23T21:09:00Z")
    message = reported(*failed(f"No such image: {IMAGE}", state="rejected"), newest)
    assert "dask_worker.1: preparing on data-1; before, rejected on data-1, 3 times: No" in message


def test_tasks_of_an_older_spec_do_not_count():
    """A task from before the update does not prove the update."""
    old = task("running") | {"Spec": TEMPLATE | {"ForceUpdate": 7}}
    assert ["dask_worker.1"] == [slot.name for slot in missing_slots(snapshot(old), "dask_worker")]


def test_a_worker_that_the_scheduler_does_not_know_is_missing():
    """Only its task runs."""
    running = task("running")
    message = reported(running, unknown_workers=frozenset([running["ID"]]))
    assert "dask_worker: 0 of 1 tasks work" in message
    assert "running on data-1, but the scheduler does not know its worker" in message


def test_a_node_that_is_away_is_named_where_the_others_are_full():
    """Swarm's error names the limit of tasks on a node, too."""
    error = (
        "no suitable node (max replicas per node limit exceed; 1 node not available for new tasks)"
    )
    away = node("data-2", "data-worker", availability="drain") | {"UpdatedAt": "2026-11-20T03:10"}
    message = reported(task("pending", error, where=None), nodes=[*NODES[:2], away])
    assert (
        "and data-1 can take them; data-2 is ready, drain (since 2026-11-20 03:10 UTC)" in message
    )
    assert "fix:   bring a node back, allow more tasks on one, or run fewer" in message


def test_a_node_whose_workers_all_are_unknown_is_named_with_its_ports():
    """The other node's worker is known, so the scheduler works."""
    here, there = task("running", slot=1), task("running", slot=2, where="data-2")
    message = reported(here, there, replicas=2, unknown_workers=frozenset([there["ID"]]))
    assert "cause: the scheduler knows no worker of data-2: the network between" in message
    assert "open 4789/udp, and 7946 tcp and udp, between data-2 and the scheduler's" in message
    assert "sudo ethtool -K <interface> tx-checksum-ip-generic off, on data-2" in message
    assert "with networkEncrypted also IP protocol 50" in message


def test_a_node_with_a_wrong_clock_is_not_cut_off():
    """Its worker's log has the cause; another node is still named."""
    early, cut_off = task("running", slot=1), task("running", slot=2, where="data-2")
    unknown = {"replicas": 2, "unknown_workers": frozenset([early["ID"], cut_off["ID"]])}
    logs = {early["ID"]: [f"tls://scheduler:8786: its certificate {EARLY_HERE}", "later"]}
    message = reported(early, cut_off, logs=logs, **unknown)
    assert "cause: the scheduler knows no worker of data-2: the network between" in message
    assert "cause: a certificate is not valid yet: the clock of the worker's node is" in message
    logs[cut_off["ID"]] = [dict(REFUSED)["bad certificate"]]
    message = reported(early, cut_off, logs=logs, **unknown)
    assert "cause: a certificate is not valid yet: the clock of the scheduler's node" in message
    assert "fix:   sudo timedatectl set-ntp true, on that node" in message
    assert "the network between" not in message


def test_a_node_with_a_known_worker_is_not_cut_off():
    """Its other worker has another problem."""
    known, unknown = task("running", slot=1), task("running", slot=2)
    message = reported(known, unknown, replicas=2, unknown_workers=frozenset([unknown["ID"]]))
    assert "but the scheduler does not know its worker" in message
    assert "cause:" not in message


def test_packages_that_are_still_installing_are_named():
    """The container has not answered yet, and nothing has failed."""
    container = TEMPLATE["ContainerSpec"] | {"Env": ["EXTRA_PIP_PACKAGES=prefect s3fs"]}
    message = reported(task("starting"), template=TEMPLATE | {"ContainerSpec": container})
    assert "cause: its container has not finished its start; it installs prefect s3fs" in message
    assert "fix:   raise healthDeadline" in message
    assert "cause:" not in reported(task("starting"))


RETRYING = (
    "WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) "
    """after connection broken by 'NewConnectionError("HTTPSConnection(host='pypi.org', """
    """port=443): Failed to establish a new connection: [Errno 111] refused")': /simple/s3fs/"""
)
OLDER_RETRYING = (
    "WARNING: Retrying (Retry(total=4, connect=None)) after connection broken by "
    "'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object at 0x7f>: "
    "Failed to establish a new connection: [Errno 111] Connection refused')': /simple/s3fs/"
)
NO_MATCH = "ERROR: No matching distribution found for s3fs"
DENIED = "PermissionError: [Errno 13] Permission denied: '/home/jovyan/.local/share/jupyter'"


@pytest.mark.parametrize(
    ("lines", "cause", "fix"),
    [
        (
            [RETRYING, NO_MATCH],
            "pip cannot connect to its package index at pypi.org (NewConnectionError)",
            "give the nodes a way to the index",
        ),
        (
            [OLDER_RETRYING],
            "pip cannot connect to its package index (NewConnectionError)",
            "give the nodes a way to the index",
        ),
        ([NO_MATCH], "pip finds no s3fs", "curl -I https://pypi.org/simple/"),
        (
            [DENIED, *["later"] * 9],
            "dask-notebook (/home/jovyan) does not belong to the container's user, uid 1000",
            'sudo chown -R 1000 "$(docker volume inspect --format {{.Mountpoint}} dask-notebook)"',
        ),
    ],
)
def test_the_log_shows_the_cause(lines, cause, fix):
    """The exit status alone does not show the cause."""
    attempts = failed("task: non-zero exit (1)")
    mounts = [{"Target": "/tmp"}, {"Target": "/home/jovyan", "Source": "dask-notebook"}]
    container = TEMPLATE["ContainerSpec"] | {"Mounts": mounts, "User": "1000:1000"}
    template = TEMPLATE | {"ContainerSpec": container}
    message = reported(*attempts, logs={attempts[-1]["ID"]: lines}, template=template)
    assert re.search(rf"cause: .*{re.escape(cause)}", message)
    assert f"fix:   {fix}" in message


def test_a_file_outside_the_volumes_is_no_foreign_volume():
    """The log is shown, without a cause that may be wrong."""
    attempts = failed("task: non-zero exit (1)")
    log = {attempts[-1]["ID"]: [DENIED]}
    assert "does not belong" not in reported(*attempts, logs=log)


def test_the_last_log_lines_follow():
    """Five lines, from the task that failed."""
    attempts = failed("task: non-zero exit (3)")
    logs = {attempts[-1]["ID"]: [f"line {number}" for number in range(9)]}
    message = reported(*attempts, logs=logs)
    assert "last lines of dask_worker.1 on data-1:" in message
    assert "| line 4" in message
    assert "| line 3" not in message


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("\x1b[31mred\x1b[0m \x07bell\ttab", "red bell tab"),
        ("http://0.0.0.0:8888/lab?token=abc123&x=1", "http://0.0.0.0:8888/lab?token=***&x=1"),
        ("password: hunter22", "password: ***"),
        ("AWS_SECRET_ACCESS_KEY=abc", "AWS_SECRET_ACCESS_KEY=***"),
        ("Authorization: Bearer abc.def", "Authorization: ***"),
        ("Authorization: token abc", "Authorization: ***"),
        ("tcp://user:hunter22@host", "tcp://user:***@host"),
        ("https://user:p@ss@host/simple", "https://user:***@host/simple"),
        ("http://user:p/w@proxy:3128 failed", "http://user:***@proxy:3128 failed"),
        ("http://me@corp:1p/w@2/3@proxy", "http://me@corp:***@proxy"),
        ("x" * 300, "x" * 199 + "…"),
    ],
)
def test_log_lines_are_safe_to_show(line, shown):
    """They have no control characters, no secrets and a limited length."""
    assert shown == clean(line)


@pytest.mark.parametrize(
    "line",
    [
        "https://host/simple/@scope/pkg and https://host:8443/simple/@scope/pkg",
        "https://[fd00::1]:8443/simple/@scope/pkg",
        "git+https://host/x.git@v1.0",
        "ssh://me@host:2222",
        "registry:5000/name:tag@sha256:0a0a",
        '{"upstream":"http://10.0.0.5:8787","from":"me@example.org"}',
    ],
)
def test_an_address_without_a_password_is_shown_whole(line):
    """A port, or '@' in a path, is no password."""
    assert line == clean(line)


def test_a_waiting_task_is_unrecoverable_only_with_the_nodes():
    """A label may still be set; the caller passes the nodes after a long wait."""
    now = snapshot(task("pending", NO_NODE, where=None))
    assert unrecoverable(now, ["dask_worker"]) is None
    assert unrecoverable(now, ["dask_worker"], NODES) is None
    assert "data-1 can take it now" in reported(task("pending", NO_NODE, where=None))
    reason = unrecoverable(now, ["dask_worker"], [NODES[0]])
    assert "dask_worker.1 cannot start: no node carries label" in reason


def test_full_nodes_are_never_unrecoverable():
    """Resources may become free."""
    now = snapshot(task("pending", NO_ROOM, where=None))
    assert unrecoverable(now, ["dask_worker"], NODES) is None


def test_too_small_nodes_are_unrecoverable():
    """Even an empty node is too small."""
    now = snapshot(task("pending", NO_ROOM, where=None))
    small = [node("data-1", "data-worker", memory=2**29)]
    assert "each task asks for 0.5 CPU and 1GiB" in unrecoverable(now, ["dask_worker"], small)


def test_the_third_failure_with_a_permanent_cause_is_unrecoverable():
    """A registry may fail once or twice."""
    attempts = failed(f"No such image: {IMAGE}", state="rejected")
    assert unrecoverable(snapshot(*attempts[:2]), ["dask_worker"]) is None
    assert "image not found" in unrecoverable(snapshot(*attempts), ["dask_worker"])


def test_one_refused_configuration_is_unrecoverable():
    """Caddy would refuse it again; its error is in the reloader's log."""
    (refused, *_) = failed("task: non-zero exit (78)")
    reason = unrecoverable(snapshot(refused), ["dask_worker"])
    assert "dask_worker.1 cannot start: Caddy refuses its configuration" in reason
    message = reported(refused, logs={refused["ID"]: ["Caddy refuses it: listen tcp :443"]})
    assert "| Caddy refuses it: listen tcp :443" in message


def test_old_failures_are_not_unrecoverable():
    """Swarm keeps ended tasks, and they may have the same spec after an update."""
    attempts = failed("task: non-zero exit (137)")
    now = snapshot(*attempts, task("starting"))
    assert "out of memory" in unrecoverable(now, ["dask_worker"])
    assert unrecoverable(now.since(snapshot(*attempts)), ["dask_worker"]) is None


def test_a_program_that_ends_is_not_unrecoverable():
    """Workers end without a scheduler, and connect later."""
    attempts = failed("task: non-zero exit (1)")
    assert unrecoverable(snapshot(*attempts), ["dask_worker"]) is None


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        ("node.labels.role==data-worker", True),
        ("node.labels.role == DATA-WORKER", True),
        ("node.labels.role!=data-worker", False),
        ("node.labels.zone!=a", True),
        ("node.labels.zone==a", False),
        ("node.hostname==data-1", True),
        ("node.role==manager", False),
        ("node.id==id-data-1", True),
        ("node.platform.os==linux", True),
        ("engine.labels.gpu==yes", False),
    ],
)
def test_constraints_match_like_in_swarm(constraint, expected):
    """They are case-insensitive; a missing label is empty."""
    assert expected == matches(NODES[1], constraint)


def test_labels_match_case_insensitively():
    """The label may have capitals too."""
    assert matches(node("data-1", "Data-Worker"), "node.labels.role==data-worker")


def test_constraints_that_no_node_meets_together_are_unrecoverable():
    """Every single constraint is met by a node."""
    both = ["node.labels.role==data-worker", "node.hostname==master"]
    unplaced = service()
    unplaced["Spec"]["TaskTemplate"] = TEMPLATE | {"Placement": {"Constraints": both}}
    pending = task("pending", NO_NODE, where=None) | {"Spec": unplaced["Spec"]["TaskTemplate"]}
    now = Snapshot(services={"dask_worker": unplaced}, tasks=(pending,))
    assert "node.hostname==master together" in unrecoverable(now, ["dask_worker"], NODES)


def test_an_invalid_constraint_is_refused():
    """Otherwise it would match all nodes or none."""
    with pytest.raises(ValueError, match="not a constraint"):
        matches(NODES[1], "role=data-worker")


def test_the_task_that_failed_an_update_is_reported():
    """After a rollback the service has another spec, and the slot works again."""
    bad = task("failed", "task: non-zero exit (4)", desired="shutdown") | {
        "Spec": TEMPLATE | {"ForceUpdate": 7}
    }
    running = task("running", at="2026-11-23T21:09:00Z")
    message = reported(bad, running, blamed_tasks=[bad], logs={bad["ID"]: ["broken"]})
    assert f"task {bad['ID']}: failed on data-1: task: non-zero exit (4)" in message
    assert "cause: its program ended with status 4" in message
    assert "| broken" in message


def test_slots_that_are_not_updated_yet_are_not_missing():
    """The tasks from before the update still work."""
    former = {"Spec": TEMPLATE | {"ForceUpdate": 1}}
    tasks = [task("running") | former, task("running", slot=2) | former | {"ID": "other"}]
    message = reported(*tasks, task("starting", at="2026-11-23T21:04:00Z"), replicas=2)
    assert (
        "dask_worker.1: starting on data-1, while the task from before the update still" in message
    )
    assert "dask_worker.2: not updated yet" in message
