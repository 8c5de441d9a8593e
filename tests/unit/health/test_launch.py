"""The launcher from its start to its end, with a fake Swarm of plain dicts."""

import contextlib
import io
import itertools
import json
import os
import signal
import threading
import time
from types import SimpleNamespace

import pytest
from docker.errors import DockerException

from health import evidence, launch, timing
from health.probe.messages import MARK, ProbeRequest
from health.request import Request
from health.timing import TIMING, Timing
from health.watch import Observer
from swarm.proof_record import record_data
from swarm.snapshot import Snapshot, spec_hash
from tests.unit.health.test_request import REQUEST
from tests.unit.swarm.test_snapshot import SPEC_HASH, TEMPLATE

PROOF = {
    "workers": 1,
    "threads": 1,
    "memory_bytes": 1,
    "versions": {"dask": "1"},
    "packages": {},
    "tasks": 1,
    "transfer_bytes": 4,
    "members": ["tcp://10.0.1.7:40001"],
    "routes": [],
}
NODE = {
    "ID": "node-id",
    "Description": {"Hostname": "node-1"},
    "Spec": {"Labels": {}, "Role": "worker", "Availability": "active"},
    "Status": {"State": "ready"},
}

CLOCK = 1_800_000_000.0  # 2027-01-15T08:00:00Z


def service(name, declared=SPEC_HASH):
    labels = {"dask.swarm/revision": declared}
    mode = {"Replicated": {"Replicas": 1}}
    spec = {"Name": name, "Labels": labels, "TaskTemplate": TEMPLATE, "Mode": mode}
    return {"ID": name, "Spec": spec, "UpdatedAt": "2026-11-23T21:03:46Z"}


def task(name, state="running", error=""):
    attachments = [{"Network": {"ID": "n1"}, "Addresses": ["10.0.1.7/24"]}]
    return {
        "ID": f"{name}-task",
        "ServiceID": name,
        "Slot": 1,
        "Spec": TEMPLATE,
        "NodeID": "node-id",
        "CreatedAt": "2026-11-23T21:03:46Z",
        "DesiredState": "running",
        "NetworksAttachments": attachments,
        "Status": {"State": state, "Err": error, "Timestamp": "2026-11-23T21:03:46Z"},
    }


class Swarm:
    """A Swarm with one worker; the probe's service prints `lines` when it is created."""

    poll_seconds = 0.01

    def __init__(self, lines, services=None, tasks=None):
        self.lines = lines
        self.services = {"dask_worker": service("dask_worker")} if services is None else services
        self.tasks_known = [task("dask_worker")] if tasks is None else tasks
        self.removed, self.rolled_back, self.resent = [], [], []
        self.records, self.probes = [], {}
        self.requests = []
        self.created = threading.Event()
        self.followed = threading.Event()

    def snapshot(self, names):
        existing = {name: self.services[name] for name in names if name in self.services}
        return Snapshot(services=existing, tasks=tuple(self.tasks_known))

    def labelled(self, labels):
        assert {"dask.swarm/role": "health"} == labels
        return Snapshot(services=self.probes, tasks=())

    def nodes(self):
        return [NODE]

    def clock(self):
        return CLOCK

    def configs(self, prefix):
        assert "dask-health-proven" == prefix
        return self.records

    def roll_back(self, existing):
        self.rolled_back.append(existing["Spec"]["Name"])
        former = {"Spec": existing["PreviousSpec"], "PreviousSpec": existing["Spec"]}
        status = {"State": "rollback_started", "Message": "manually requested rollback"}
        self.services[existing["Spec"]["Name"]] = existing | former | {"UpdateStatus": status}

    def resend(self, existing):
        self.resent.append(existing["Spec"]["Name"])
        del self.services[existing["Spec"]["Name"]]["UpdateStatus"]

    def tasks(self):
        return self.tasks_known

    def create(self, spec):
        self.services[spec["name"]] = service(spec["name"])
        container = spec["task_template"]["ContainerSpec"]
        self.requests.append(ProbeRequest.parse(container["Args"][-1]))
        self.created.set()
        return spec["name"]

    def remove(self, name):
        self.removed.append(name)
        return bool(self.services.pop(name, None))

    def follow(self, _):
        self.followed.set()
        for line in self.lines:
            yield line if isinstance(line, str) else MARK + json.dumps(line)
        threading.Event().wait()  # like a log without an end

    def last_lines(self, *_):
        yield "dask_worker-task", "the last line"


@pytest.fixture
def launched(monkeypatch, capsys):
    """Return a function that runs the launcher on a Swarm: exit code, output, messages."""

    def run(swarm, timing=TIMING, *, cleans_up=True, **changes):
        dismissed = []

        @contextlib.contextmanager
        def reaper(*_):
            yield lambda: dismissed.append(True)

        # A process with the threads of other tests must not fork.
        monkeypatch.setattr(launch, "reaper", reaper)
        for module in ("launch", "log_reader", "evidence"):
            monkeypatch.setattr(f"health.{module}.Manager", lambda: swarm)
        fields = (
            REQUEST | {"services": {"dask_worker": SPEC_HASH}, "deadline_seconds": 2} | changes
        )
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(fields)))
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
        before = {number: signal.getsignal(number) for number in numbers}
        try:
            code = launch.main(timing)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        out, err = capsys.readouterr()
        assert all(name.startswith("dask_health-") for name in swarm.removed)
        assert cleans_up != any(name.startswith("dask_health-") for name in swarm.services)
        assert cleans_up == bool(dismissed)
        return code, out, err

    return run


def test_a_proof_is_printed_as_one_object(launched):
    """The proof has the workers of every node, and its seconds."""
    progress = {"progress": "1 of 1 workers", "members": []}
    torn = MARK + '{"progr'  # the log broke off
    swarm = Swarm(["noise", torn, progress, {"proof": PROOF}, '{"failure": "not marked"}'])
    code, out, _ = launched(swarm)
    assert 0 == code
    assert {"node-1": 1} == json.loads(out)["nodes"]
    assert json.loads(out)["seconds"] >= 0
    assert {"dask_worker"} == json.loads(out)["imprints"].keys()
    assert 1 == len(swarm.removed)


def test_workers_that_are_busy_are_reported_by_name(launched):
    """Progress and output show that they ran no task of the proof."""
    worker = PROOF["members"][0]
    proof = PROOF | {"tasks": 0, "busy": {worker: "train for 412 s"}}
    _, out, err = launched(Swarm([{"proof": proof}]))
    busy = f"dask_worker.1 on node-1 ({worker}) runs train for 412 s"
    assert [busy] == json.loads(out)["busy"]
    assert f"no task of the proof: {busy}" in err


def test_a_node_without_a_description_is_tolerated(launched, monkeypatch):
    """It has joined and is not connected yet; the workers are on other nodes."""
    new = {"ID": "n4w", "Description": {"Platform": {}}, "Spec": {}, "Status": {}}
    monkeypatch.setattr(Swarm, "nodes", lambda _: [NODE, new])
    code, out, _ = launched(Swarm([{"proof": PROOF}]))
    assert (0, {"node-1": 1}) == (code, json.loads(out)["nodes"])


def test_a_failure_is_reported(launched):
    """Workers have the names of their tasks; standard output is empty."""
    swarm = Swarm([{"failure": "expected 2 threads, found 1: tcp://10.0.1.7:40001 has 1"}])
    code, out, err = launched(swarm)
    assert (1, "") == (code, out)
    assert "found 1: dask_worker.1 on node-1 (tcp://10.0.1.7:40001) has 1" in err


def test_the_deadline_ends_the_wait(launched):
    """The report has the last progress and the missing workers."""
    seen = {"progress": "0 of 1 workers", "members": []}
    swarm = Swarm([seen, {"progress": "waiting for the notebook"}])
    code, _, err = launched(swarm, deadline_seconds=0.3)
    assert 1 == code
    assert "not proven within 0.3 s\nlast step: waiting for the notebook" in err
    assert "dask_worker.1: running on node-1, but the scheduler does not know its worker" in err
    assert "| the last line" in err


def test_logs_that_do_not_end_do_not_hold_up_the_report(launched, monkeypatch):
    """The node of a task may be down."""
    released = threading.Event()
    monkeypatch.setattr(evidence, "TIMING", Timing(logs=0.1))
    swarm = Swarm([{"progress": "0 of 1 workers", "members": []}])
    swarm.last_lines = lambda *_: iter(lambda: released.wait(5), True)
    start = time.monotonic()
    code, _, err = launched(swarm, deadline_seconds=0.3)
    assert (1, True) == (code, "not proven within 0.3 s" in err)
    assert time.monotonic() - start < 3
    released.set()


def test_the_probe_gives_up_before_the_launcher(launched):
    """Its failure names more than the launcher's, and must arrive in time."""
    swarm = Swarm([{"proof": PROOF}])
    launched(swarm, Timing(margin=3), deadline_seconds=10)
    assert 4 < swarm.requests[0].deadline_seconds <= 7


def test_a_starting_task_is_not_blamed_for_its_worker(launched):
    """Its worker cannot have started yet."""
    swarm = Swarm([{"progress": "0 of 1 workers", "members": []}])
    swarm.tasks_known = [task("dask_worker", "starting")]
    _, _, err = launched(swarm, deadline_seconds=0.3)
    assert "dask_worker.1: starting on node-1\n" in err


def test_a_service_that_does_not_appear_fails(launched):
    """Its creation has failed with another message."""
    code, _, err = launched(Swarm([], services={}, tasks=[]), Timing(appear=0.1))
    assert 1 == code
    assert "dask_worker: not created or updated within 0.1 s" in err
    assert "dask_worker: the service does not exist" in err


def test_the_probe_does_not_start_beside_old_services(launched):
    """It would prove the old services."""
    swarm = Swarm([{"proof": PROOF}], services={"dask_worker": service("dask_worker", "old")})
    code, _, err = launched(swarm, Timing(appear=0.1))
    assert 1 == code
    assert "is not updated yet" in err
    assert not swarm.created.is_set()


def test_the_probe_starts_beside_services_that_it_does_not_prove(launched):
    """Caddy may be updated during the proof of the cluster; the result waits for both."""
    services = {"dask_worker": service("dask_worker"), "dask_caddy": service("dask_caddy", "old")}
    swarm = Swarm([{"proof": PROOF}], services=services)
    declared = {"dask_worker": SPEC_HASH, "dask_caddy": SPEC_HASH}
    code, _, err = launched(swarm, Timing(appear=0.5), services=declared, healthy=["dask_caddy"])
    assert swarm.created.is_set()
    assert 1 == code
    assert "dask_caddy: not created or updated within 0.5 s" in err


class Restless(Swarm):
    """A Swarm whose task fails again and again."""

    def snapshot(self, names):
        refused = task("dask_worker", "failed", "task: non-zero exit (78)")
        refused |= {"ID": f"task-{len(self.tasks_known)}", "DesiredState": "shutdown"}
        self.tasks_known.append(refused)
        return super().snapshot(names)


@pytest.mark.parametrize(
    ("declared", "message"),
    [(SPEC_HASH, "Caddy refuses its configuration"), ("old", "not created or updated within")],
)
def test_failed_tasks_count_only_once_their_service_is_updated(launched, declared, message):
    """The update may fix what failed before."""
    services = {"dask_worker": service("dask_worker", declared)}
    swarm = Restless([], services=services, tasks=[])
    code, _, err = launched(swarm, Timing(appear=0.1))
    assert 1 == code
    assert message in err
    assert ("cannot start" in err) == (declared == SPEC_HASH)


def test_what_failed_before_the_deployment_does_not_count(launched):
    """The deployment may be what mends it."""
    old = task("dask_worker", "failed", "task: non-zero exit (78)")
    old |= {"ID": "old", "DesiredState": "shutdown"}
    swarm = Swarm([{"proof": PROOF}], tasks=[old, task("dask_worker", "starting")])
    code, _, err = launched(swarm)
    assert 0 == code, err


def test_a_probe_that_ends_without_a_result_fails(launched):
    """The message has the error of its task."""
    swarm = Swarm([])
    create = swarm.create

    def create_and_fail(spec):
        swarm.tasks_known.append(task(spec["name"], "failed", "task: non-zero exit (1)"))
        return create(spec)

    swarm.create = create_and_fail
    code, _, err = launched(swarm, Timing(last_line=0.05))
    assert 1 == code
    assert "the probe ended without a result: task: non-zero exit (1)" in err


def silence(swarm):
    """Let a manager fail after its first answer, three times."""
    answers, count = swarm.snapshot, itertools.count()

    def snapshot(names):
        if 1 <= next(count) < 4:
            raise DockerException("no leader")
        return answers(names)

    swarm.snapshot = snapshot


def test_a_manager_may_be_silent_for_a_while(launched):
    """During an election; after that the launcher fails with the manager's error."""
    swarm = Swarm([{"proof": PROOF}])
    silence(swarm)
    assert 0 == launched(swarm)[0]
    swarm.removed.clear()
    del swarm.snapshot
    silence(swarm)
    code, _, err = launched(swarm, Timing(silence=-1))
    assert 1 == code
    assert "no leader" in err


def test_each_answer_of_a_manager_begins_a_new_time_limit(monkeypatch):
    """A proof may take longer than a manager may be silent."""
    clock, swarm = [0], Swarm([])
    monkeypatch.setattr(timing, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    observer = Observer(swarm, [], Timing(silence=10))
    clock[0] = 8
    observer.look()
    silence(swarm)
    observer.look()  # the last answer
    clock[0] = 16
    observer.look()
    clock[0] = 19
    with pytest.raises(DockerException, match="no leader"):
        observer.look()


def test_a_task_without_a_node_fails_early(launched):
    """No wait gives a node a label."""
    nowhere = task(
        "dask_worker", "pending", "no suitable node (scheduling constraints not satisfied)"
    )
    swarm = Swarm([], tasks=[nowhere])
    code, _, err = launched(swarm, Timing(unplaced=0.1, examine_pause=0.05), deadline_seconds=20)
    assert 1 == code
    assert "dask_worker.1 cannot start: no node carries label role=data-worker" in err


@pytest.mark.parametrize(("running", "missing"), [(1, 1), (0, 0)])
def test_workers_that_wait_for_a_node_are_recorded(launched, monkeypatch, running, missing):
    """So the next deployment proves them; a proof without any worker is none."""
    down = NODE | {"ID": "down", "Status": {"State": "down"}}
    labels = {"role": "data-worker"}
    nodes = [node | {"Spec": NODE["Spec"] | {"Labels": labels}} for node in (NODE, down)]
    monkeypatch.setattr(Swarm, "nodes", lambda _: nodes)
    pending = task(
        "dask_worker", "pending", "no suitable node (1 node not available for new tasks)"
    )
    tasks = [task("dask_worker")] * running + [pending] * (2 - running)
    swarm = Swarm([{"proof": PROOF}], tasks=[t | {"ID": f"t{i}"} for i, t in enumerate(tasks)])
    swarm.services["dask_worker"]["Spec"]["Mode"]["Replicated"]["Replicas"] = 2
    expected = {"workers": 2, "threads": 2, "memory_bytes": 2, "workers_per_node": 2}
    code, out, err = launched(swarm, expected=expected)
    assert 0 == code, err
    assert missing == swarm.requests[0].expected.missing
    assert bool(missing) == ("missing" in json.loads(out))


def test_time_is_left_to_roll_back_after_the_deadline(launched):
    """The launcher sees the old tasks run again."""
    swarm = Swarm([{"progress": "0 of 1 workers"}], {"dask_worker": updated("dask_worker")})
    _, _, err = launched(swarm, deadline_seconds=2)
    assert "not proven within 1.5 s" in err
    assert err.endswith("\n\nrolled back: dask_worker as before this update\n")


def updated(name, *, at="2027-01-15T07:59:59.5Z"):
    """Return a service that this deployment has just updated."""
    return service(name) | {"PreviousSpec": service(name, "old")["Spec"], "UpdatedAt": at}


def test_an_update_is_rolled_back_after_a_failed_proof(launched):
    """All updated services and no other; the rollback is the end of the report."""
    services = {"dask_worker": updated("dask_worker"), "dask_scheduler": updated("dask_scheduler")}
    services["dask_notebook"] = updated("dask_notebook", at="2027-01-15T07:00:00Z")
    tasks = [task(name) for name in services]
    swarm = Swarm([{"failure": "expected one version"}], services, tasks)
    code, _, err = launched(swarm, services=dict.fromkeys(services, SPEC_HASH))
    assert 1 == code
    assert ["dask_scheduler", "dask_worker"] == sorted(swarm.rolled_back)
    assert "expected one version" in err
    assert err.endswith("\n\nrolled back: dask_worker, dask_scheduler as before this update\n")


def test_the_update_of_an_interrupted_deployment_is_rolled_back_too(launched):
    """The next deployment declares the same; the proof record has the old spec hash."""
    services = {"dask_worker": updated("dask_worker", at="2027-01-15T07:00:00Z")}
    swarm = Swarm([{"failure": "expected one version"}], services)
    proof = {"imprints": {"dask_worker": spec_hash(service("dask_worker", "old"))}}
    spec = {"Name": "dask-health-proven-1a2b3c4", "Data": record_data(proof, "a1")}
    swarm.records = [{"ID": "n1", "CreatedAt": "2027-01-15T06:00:00Z", "Spec": spec}]
    _, _, err = launched(swarm)
    assert ["dask_worker"] == swarm.rolled_back
    assert "rolled back: dask_worker as before this update" in err


def test_an_update_is_rolled_back_after_an_election(launched):
    """An election may last longer than the launcher waits."""
    swarm = Swarm([], {"dask_worker": updated("dask_worker")})
    silence(swarm)
    code, _, err = launched(swarm, Timing(silence=-1))
    assert (1, ["dask_worker"]) == (code, swarm.rolled_back)
    assert "the Swarm manager at unix:///var/run/docker.sock: no leader\n" in err
    assert err.endswith("rolled back: dask_worker as before this update\n")


def test_a_first_deployment_is_not_rolled_back(launched):
    """Its report does not mention a rollback."""
    code, _, err = launched(Swarm([{"failure": "expected one version"}]))
    assert 1 == code
    assert "rolled back" not in err


def test_a_paused_rollback_is_resumed(launched):
    """Pulumi sees no change, so Swarm would stay paused."""
    status = {"State": "rollback_paused", "StartedAt": "then", "Message": "due to failure of t1"}
    services = {"dask_worker": updated("dask_worker") | {"UpdateStatus": status}}
    swarm = Swarm([{"proof": PROOF}], services)
    code, _, err = launched(swarm)
    assert (0, ["dask_worker"]) == (code, swarm.resent), err


def test_swarm_is_asked_to_end_surplus_tasks(launched):
    """With two schedulers no proof begins, because each knows a part of the workers."""

    class Crowded(Swarm):
        def resend(self, existing):
            assert not self.created.is_set()
            self.resent.append(existing["Spec"]["Name"])
            self.tasks_known.pop()

    swarm = Crowded([{"proof": PROOF}], tasks=[task("dask_worker"), task("dask_worker")])
    code, _, err = launched(swarm, Timing(crowded=0.1))
    assert (0, ["dask_worker"]) == (code, swarm.resent), err
    assert "dask_worker runs more tasks than declared; sending its spec again" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_launcher_removes_its_service(launched, number):
    """Its exit code is what a shell expects after an interrupt."""
    swarm = Swarm([])

    def interrupt():
        swarm.followed.wait(5)
        os.kill(os.getpid(), number)

    threading.Thread(target=interrupt).start()
    code, out, err = launched(swarm, deadline_seconds=10)
    assert (130, "") == (code, out)
    assert "interrupted" in err
    assert 1 == len(swarm.removed)


def test_what_killed_launchers_have_left_is_removed(launched):
    """A probe of a running deployment is left alone."""
    swarm = Swarm([{"proof": PROOF}])
    for name, deadline in (("dask_health-old", 1), ("dask_health-busy", time.time() + 60)):
        labels = {"dask.swarm/deadline": str(int(deadline))}
        swarm.probes[name] = {"ID": name, "Spec": {"Name": name, "Labels": labels}}
    assert 0 == launched(swarm)[0]
    assert "dask_health-old" in swarm.removed
    assert "dask_health-busy" not in swarm.removed


@pytest.mark.parametrize("error", [None, DockerException("no leader")])
def test_a_service_that_cannot_be_removed_is_left_to_the_reaper(launched, monkeypatch, error):
    """The request to create it is under way, or the manager is silent."""

    def remove(swarm, name):
        if error:
            raise error
        return False

    monkeypatch.setattr(Swarm, "remove", remove)
    code, _, _ = launched(Swarm([{"proof": PROOF}]), cleans_up=False)
    assert 0 == code


def test_a_launcher_without_its_engine_neither_proves_nor_rolls_back(launched, monkeypatch):
    """The next deployment must find its services untouched, and no second probe."""
    swarm = Swarm([], {"dask_worker": updated("dask_worker")})
    monkeypatch.setattr(launch, "ENGINE_SECONDS", 0.05)
    monkeypatch.setattr(os, "getppid", lambda: 1 if swarm.followed.is_set() else 2)
    code, out, _ = launched(swarm, deadline_seconds=10)
    assert (130, "") == (code, out)
    assert (1, []) == (len(swarm.removed), swarm.rolled_back)


def test_the_request_of_these_tests_is_valid():
    """The launcher can read it."""
    assert Request.parse(json.dumps(REQUEST)).network_id == "n1"
