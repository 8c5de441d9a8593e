"""The launcher from its start to its end, with a Swarm made up of plain dicts."""

import contextlib
import io
import itertools
import json
import os
import signal
import threading

import pytest
from docker.errors import DockerException

from health import launch, rollback, watch
from health.probe.messages import MARK
from health.request import Request
from swarm import drift
from swarm.proof_record import PROOF_RECORD
from swarm.snapshot import spec_hash
from tests.unit.health.test_request import ASKED
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


def service(name, revision=SPEC_HASH):
    labels = {"dask.swarm/revision": revision}
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
    """A Swarm with one worker; the probe's service says `words` when it is created."""

    poll_seconds = 0.01

    def __init__(self, words, services=None, tasks=None):
        self.words = words
        self.services = {"dask_worker": service("dask_worker")} if services is None else services
        self.tasks_known = [task("dask_worker")] if tasks is None else tasks
        self.removed, self.rolled_back, self.resumed = [], [], []
        self.notes = []
        self.created = threading.Event()
        self.followed = threading.Event()

    def snapshot(self, names):
        found = {name: self.services[name] for name in names if name in self.services}
        return watch.Snapshot(services=found, tasks=tuple(self.tasks_known))

    def labelled(self, _):
        return watch.Snapshot(services={}, tasks=())

    def nodes(self):
        return [NODE]

    def clock(self):
        return CLOCK

    def configs(self, beginning):
        assert PROOF_RECORD == beginning
        return self.notes

    def roll_back(self, found):
        self.rolled_back.append(found["Spec"]["Name"])
        former = {"Spec": found["PreviousSpec"], "PreviousSpec": found["Spec"]}
        status = {"State": "rollback_started", "Message": "manually requested rollback"}
        self.services[found["Spec"]["Name"]] = found | former | {"UpdateStatus": status}

    def resume(self, found):
        self.resumed.append(found["Spec"]["Name"])
        del self.services[found["Spec"]["Name"]]["UpdateStatus"]

    def tasks(self):
        return self.tasks_known

    def create(self, spec):
        self.services[spec["name"]] = service(spec["name"])
        self.created.set()
        return spec["name"]

    def remove(self, name):
        self.removed.append(name)
        return bool(self.services.pop(name, None))

    def follow(self, _):
        self.followed.set()
        for word in self.words:
            yield word if isinstance(word, str) else MARK + json.dumps(word)
        threading.Event().wait()  # as a log without an end

    def last_lines(self, *_):
        yield "dask_worker-task", "the last line"


@pytest.fixture
def launched(monkeypatch, capsys):
    """Return a function that runs the launcher on a Swarm: exit code, output, messages."""

    def run(swarm, **changes):
        dismissed = []

        @contextlib.contextmanager
        def guarded(*_):
            yield lambda: dismissed.append(True)

        # A process with the threads of other tests must not fork.
        monkeypatch.setattr(launch, "guarded", guarded)
        for module in ("launch", "log_reader", "evidence"):
            monkeypatch.setattr(f"health.{module}.Manager", lambda: swarm)
        asked = ASKED | {"services": {"dask_worker": SPEC_HASH}, "deadline_seconds": 2} | changes
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(asked)))
        before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            code = launch.main()
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)
        out, err = capsys.readouterr()
        assert all(name.startswith("dask_health-") for name in swarm.removed)
        assert not any(name.startswith("dask_health-") for name in swarm.services)
        assert [True] == dismissed
        return code, out, err

    return run


def test_a_proof_is_printed_as_one_object(launched):
    """With the nodes, which only the Swarm knows, and the seconds that it took."""
    begun = {"progress": "1 of 1 workers", "members": []}
    swarm = Swarm(["noise", begun, {"proof": PROOF}, '{"failure": "not marked"}'])
    code, out, _ = launched(swarm)
    assert 0 == code
    assert {"node-1": 1} == json.loads(out)["nodes"]
    assert json.loads(out)["seconds"] >= 0
    assert {"dask_worker"} == json.loads(out)["imprints"].keys()
    assert 1 == len(swarm.removed)


def test_a_node_without_a_description_spoils_no_proof(launched, monkeypatch):
    """It has joined and not connected; the workers are elsewhere."""
    newcomer = {"ID": "n4w", "Description": {"Platform": {}}, "Spec": {}, "Status": {}}
    monkeypatch.setattr(Swarm, "nodes", lambda _: [NODE, newcomer])
    code, out, _ = launched(Swarm([{"proof": PROOF}]))
    assert (0, {"node-1": 1}) == (code, json.loads(out)["nodes"])


def test_a_failure_is_the_last_word(launched):
    """Workers are named as the Swarm does; nothing is printed on standard output."""
    swarm = Swarm([{"failure": "expected 2 threads, found 1: tcp://10.0.1.7:40001 has 1"}])
    code, out, err = launched(swarm)
    assert (1, "") == (code, out)
    assert "found 1: dask_worker.1 on node-1 (tcp://10.0.1.7:40001) has 1" in err


def test_the_deadline_ends_the_wait(launched):
    """The last progress and the workers that are missing are told."""
    swarm = Swarm([{"progress": "0 of 1 workers", "members": []}])
    code, _, err = launched(swarm, deadline_seconds=0.3)
    assert 1 == code
    assert "not proven within 0.3 s\nlast step: 0 of 1 workers" in err
    assert "dask_worker.1: running on node-1, but the scheduler does not know its worker" in err
    assert "| the last line" in err


def test_a_task_that_starts_is_not_blamed_for_its_worker(launched):
    """There can be no worker yet."""
    swarm = Swarm([{"progress": "0 of 1 workers", "members": []}])
    swarm.tasks_known = [task("dask_worker", "starting")]
    _, _, err = launched(swarm, deadline_seconds=0.3)
    assert "dask_worker.1: starting on node-1\n" in err


def appear_within(monkeypatch, seconds):
    """Allow a declared service so long to be there."""
    for module in (watch, rollback):
        monkeypatch.setattr(module, "APPEAR_SECONDS", seconds)


def test_a_service_that_does_not_appear_fails(launched, monkeypatch):
    """Its creation failed, and says so elsewhere."""
    appear_within(monkeypatch, 0.1)
    code, _, err = launched(Swarm([], services={}, tasks=[]))
    assert 1 == code
    assert "dask_worker did not appear as declared" in err
    assert "dask_worker: the Swarm has no such service" in err


def test_the_probe_does_not_start_beside_old_services(launched, monkeypatch):
    """It would prove those."""
    appear_within(monkeypatch, 0.1)
    swarm = Swarm([{"proof": PROOF}], services={"dask_worker": service("dask_worker", "old")})
    code, _, err = launched(swarm)
    assert 1 == code
    assert "is not updated yet" in err
    assert not swarm.created.is_set()


def test_the_probe_starts_beside_services_that_it_does_not_meet(launched, monkeypatch):
    """Caddy's sites are reloaded while the cluster is proven; the proof counts when both are."""
    appear_within(monkeypatch, 0.5)
    services = {"dask_worker": service("dask_worker"), "dask_caddy": service("dask_caddy", "old")}
    swarm = Swarm([{"proof": PROOF}], services=services)
    revisions = {"dask_worker": SPEC_HASH, "dask_caddy": SPEC_HASH}
    code, _, err = launched(swarm, services=revisions, healthy=["dask_caddy"])
    assert swarm.created.is_set()
    assert 1 == code
    assert "dask_caddy did not appear as declared" in err


class Restless(Swarm):
    """A Swarm whose one task ends as soon as it has started, time and again."""

    def snapshot(self, names):
        refused = task("dask_worker", "failed", "task: non-zero exit (78)")
        refused |= {"ID": f"task-{len(self.tasks_known)}", "DesiredState": "shutdown"}
        self.tasks_known.append(refused)
        return super().snapshot(names)


@pytest.mark.parametrize(
    ("revision", "said"),
    [(SPEC_HASH, "Caddy refuses its configuration"), ("old", "did not appear as declared")],
)
def test_what_fails_until_its_service_is_updated_is_not_judged(
    launched, monkeypatch, revision, said
):
    """The deployment before may have failed for what this one mends."""
    appear_within(monkeypatch, 0.1)
    services = {"dask_worker": service("dask_worker", revision)}
    code, _, err = launched(Restless([], services=services, tasks=[]))
    assert 1 == code
    assert said in err
    assert ("cannot start" in err) == (revision == SPEC_HASH)


def test_a_probe_that_ends_without_a_word_fails(launched, monkeypatch):
    """Its own task's error is what there is to tell."""
    monkeypatch.setattr(watch, "LAST_WORDS_SECONDS", 0.05)
    swarm = Swarm([])
    create = swarm.create

    def create_and_fail(spec):
        swarm.tasks_known.append(task(spec["name"], "failed", "task: non-zero exit (1)"))
        return create(spec)

    swarm.create = create_and_fail
    code, _, err = launched(swarm)
    assert 1 == code
    assert "the probe ended without a result: task: non-zero exit (1)" in err


def silence(swarm):
    """Let a manager answer once, and then not for three times."""
    answers, count = swarm.snapshot, itertools.count()

    def snapshot(names):
        if 1 <= next(count) < 4:
            raise DockerException("no leader")
        return answers(names)

    swarm.snapshot = snapshot


def test_a_manager_may_be_silent_for_a_while(launched, monkeypatch):
    """Another one is elected; not for ever, and the cause stays told."""
    swarm = Swarm([{"proof": PROOF}])
    silence(swarm)
    assert 0 == launched(swarm)[0]
    swarm.removed.clear()
    del swarm.snapshot
    silence(swarm)
    monkeypatch.setattr(watch, "SILENCE_SECONDS", -1)
    code, _, err = launched(swarm)
    assert 1 == code
    assert "no leader" in err


def updated(name, *, at="2027-01-15T07:59:59.5Z"):
    """Return a service that another deployment declared, as this one has just changed it."""
    return service(name) | {"PreviousSpec": service(name, "old")["Spec"], "UpdatedAt": at}


def test_an_update_that_is_not_proven_is_taken_back(launched):
    """All that it changed, whatever was wrong, and nothing else; told after what was found."""
    services = {"dask_worker": updated("dask_worker"), "dask_scheduler": updated("dask_scheduler")}
    services["dask_notebook"] = updated("dask_notebook", at="2027-01-15T07:00:00Z")
    tasks = [task(name) for name in services]
    swarm = Swarm([{"failure": "expected one version"}], services, tasks)
    code, _, err = launched(swarm, services=dict.fromkeys(services, SPEC_HASH))
    assert 1 == code
    assert ["dask_scheduler", "dask_worker"] == sorted(swarm.rolled_back)
    assert "expected one version" in err
    assert err.endswith("\n\nrolled back: dask_worker, dask_scheduler as before this update\n")


def test_what_an_interrupted_deployment_left_is_taken_back_too(launched):
    """The next one declares the same, and changes nothing itself; the last proof knew another."""
    services = {"dask_worker": updated("dask_worker", at="2027-01-15T07:00:00Z")}
    swarm = Swarm([{"failure": "expected one version"}], services)
    proof = {"imprints": {"dask_worker": spec_hash(service("dask_worker", "old"))}}
    spec = {"Name": f"{PROOF_RECORD}-1a2b3c4", "Data": drift.note(proof, "a1")}
    swarm.notes = [{"ID": "n1", "CreatedAt": "2027-01-15T06:00:00Z", "Spec": spec}]
    _, _, err = launched(swarm)
    assert ["dask_worker"] == swarm.rolled_back
    assert "rolled back: dask_worker as before this update" in err


def test_a_manager_that_falls_silent_finds_its_update_taken_back(launched, monkeypatch):
    """An election may last longer than the patience with it, and then nothing is proven."""
    monkeypatch.setattr(watch, "SILENCE_SECONDS", -1)
    swarm = Swarm([], {"dask_worker": updated("dask_worker")})
    silence(swarm)
    code, _, err = launched(swarm)
    assert (1, ["dask_worker"]) == (code, swarm.rolled_back)
    assert "the Swarm manager at unix:///var/run/docker.sock: no leader\n" in err
    assert err.endswith("rolled back: dask_worker as before this update\n")


def test_a_first_deployment_has_nothing_to_go_back_to(launched):
    """It fails without a word about it, and has all of the deadline."""
    code, _, err = launched(Swarm([{"failure": "expected one version"}]))
    assert 1 == code
    assert "rolled back" not in err


def test_a_way_back_that_was_paused_is_gone_on_with(launched):
    """The engine sees what is declared and tells the Swarm nothing, which would stay as it is."""
    status = {"State": "rollback_paused", "StartedAt": "then", "Message": "due to failure of t1"}
    services = {"dask_worker": updated("dask_worker") | {"UpdateStatus": status}}
    swarm = Swarm([{"proof": PROOF}], services)
    code, _, err = launched(swarm)
    assert (0, ["dask_worker"]) == (code, swarm.resumed), err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_launcher_removes_its_service(launched, number):
    """It ends as a shell expects after an interrupt."""
    swarm = Swarm([])

    def interrupt():
        swarm.followed.wait(5)
        os.kill(os.getpid(), number)

    threading.Thread(target=interrupt).start()
    code, out, err = launched(swarm, deadline_seconds=10)
    assert (130, "") == (code, out)
    assert "interrupted" in err
    assert 1 == len(swarm.removed)


def test_requests_of_tests_are_requests():
    """What these tests ask is what the launcher understands."""
    assert Request.parse(json.dumps(ASKED)).network_id == "n1"
