"""The upgrade check from its start to its end, with a fake Swarm of plain dicts."""

import contextlib
import io
import json
import signal
import threading

import pytest

from health import upgrade
from health.probe.messages import MARK
from health.probe.versions import COMPARED
from health.timing import Timing
from swarm.proof_record import record_data
from swarm.snapshot import Snapshot
from tests.unit.swarm.test_capacity import node

OLD, NEW = "dask:2026.7.1@sha256:a", "dask:2026.8.0@sha256:b"
NOTEBOOK = "notebook:2026.8.0@sha256:c"
SAME = dict.fromkeys(COMPARED, "1") | {"python": "3.12.1", "distributed": "2026.8.0"}
OTHER = SAME | {"distributed": "2026.7.1"}
TEMPLATE = {"ContainerSpec": {"Image": NEW}}
PIP = {"SecretID": "p1", "SecretName": "pip-1", "File": {"Name": "/etc/pip.conf"}}
REQUEST = {
    "scheduler": "dask_scheduler",
    "port": 8787,
    "network_name": "dask-network",
    "images": {"image": NEW, "notebookImage": NOTEBOOK},
    "changed": ["image"],
    "packages": [],
    "constraints": ["node.labels.role==master"],
    "platforms": ["linux/amd64"],
    "deadline_seconds": 2,
    "idle_seconds": 0,
}


def task(service, state):
    return {
        "ID": f"{service}-task", "ServiceID": service, "Slot": 1, "Spec": TEMPLATE, "NodeID": "n",
        "CreatedAt": "2026-11-23T21:03:46Z", "DesiredState": "running",
        "Status": {"State": state, "Err": "no such image" if state == "rejected" else ""},
    }  # fmt: skip


class Swarm:
    """A Swarm with a scheduler; the service of an image prints the message for it."""

    poll_seconds = 0.01

    def __init__(self, state="running", **messages):
        self.messages = messages  # by image, "packages" or "idle"
        self.state = state
        self.created, self.running, self.removed = [], {}, []
        container = {"Image": OLD, "Secrets": [PIP, PIP | {"File": {"Name": "key"}}]}
        spec = {"TaskTemplate": {"ContainerSpec": container, "Placement": {"Constraints": ["x"]}}}
        self.scheduler = {"ID": "s1", "Spec": spec}

    def snapshot(self, names):
        if names == ["dask_scheduler"]:
            return Snapshot(services={names[0]: self.scheduler}, tasks=(task("s1", self.state),))
        tasks = [task(name, "rejected" if name in self.running else "running") for name in names]
        specs = {
            name: {"ID": name, "Spec": {"Mode": {}, "TaskTemplate": TEMPLATE}}
            for name in self.running
            if self.running[name] is None
        }
        return Snapshot(services=specs, tasks=tuple(tasks))

    def create(self, arguments):
        container = arguments["task_template"]["ContainerSpec"]
        module, request = container["Args"][-2:]
        key = "idle" if module == "idle" else "image" if container["Image"] == NEW else "notebook"
        if container.get("Env"):
            key += "_with_packages"
        self.created.append((key, arguments["task_template"], request))
        self.running[arguments["name"]] = self.messages.get(key)
        return arguments["name"]

    def follow(self, name):
        if message := self.running.get(name):
            yield MARK + json.dumps(message)
        threading.Event().wait()

    def remove(self, name):
        self.removed.append(name)
        return True

    def configs(self, prefix):
        data = record_data({"versions": {"distributed": "2026.7.1"}}, "a1")
        return [{"CreatedAt": "1", "Spec": {"Name": f"{prefix}-1a2b3c4", "Data": data}}]

    def objects(self, kind):
        assert "network" == kind
        overlay = {"Id": "n1", "Name": "dask-network", "Scope": "swarm"}
        local = overlay | {"Id": "n3", "Scope": "local"}
        return [overlay, overlay | {"Id": "n2", "Name": "other"}, local]

    def nodes(self):
        return []

    def tasks(self):
        return []

    def last_lines(self, *_):
        return iter(())


@pytest.fixture
def check(monkeypatch, capsys):
    """Return a function that runs the check on a Swarm: exit code, output, messages."""

    def run(swarm, timing=None, **changes):
        dismissed = []

        @contextlib.contextmanager
        def reaper(name, seconds, _):
            # A reaper that ends earlier would remove a service that still works.
            assert seconds >= fields["deadline_seconds"] + fields["idle_seconds"]
            guarded.append(name)
            yield lambda: dismissed.append(name)

        guarded, fields = [], REQUEST | changes
        # A process with the threads of other tests must not fork.
        monkeypatch.setattr(upgrade, "reaper", reaper)
        for module in ("upgrade", "log_reader", "evidence"):
            monkeypatch.setattr(f"health.{module}.Manager", lambda: swarm)
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(fields)))
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
        before = {number: signal.getsignal(number) for number in numbers}
        try:
            code = upgrade.main(timing or Timing(last_line=0.05, appear=2))
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        assert {*guarded} == {*dismissed}
        assert {*swarm.running} <= {*swarm.removed}
        return code, *capsys.readouterr()

    return run


def report(versions):
    return {"proof": versions}


def test_equal_images_pass(check):
    """The versions are shown, beside those of the last proof."""
    swarm = Swarm(image=report(SAME), notebook=report(SAME))
    code, out, err = check(swarm)
    assert (0, SAME) == (code, json.loads(out)["versions"])
    assert "both images have python 3.12.1, dask 1, distributed 2026.8.0" in err
    assert "the cluster runs distributed 2026.7.1" in err
    assert ["image", "notebook"] == sorted(key for key, *_ in swarm.created)


def test_the_services_of_the_check_have_the_probes_rights(check):
    """They are not root, write to volumes only, and are on no network."""
    swarm = Swarm(image=report(SAME), notebook=report(SAME))
    check(swarm)
    for _, template, _ in swarm.created:
        spec = template["ContainerSpec"]
        assert ("1000:1000", True, ["ALL"], []) == (
            spec["User"], spec["ReadOnly"], spec["CapabilityDrop"], spec["Secrets"],
        )  # fmt: skip
        assert {
            "Constraints": ["node.labels.role==master"],
            "Platforms": [{"Architecture": "amd64", "OS": "linux"}],
        } == template["Placement"]
        assert "Networks" not in template


def test_different_images_are_refused(check):
    """The message has the key, both images, each version and the fix."""
    swarm = Swarm(image=report(OTHER), notebook=report(SAME))
    code, out, err = check(swarm)
    assert (1, "") == (code, out)
    assert "image: the images have different versions. Nothing was changed." in err
    assert "  distributed: 2026.7.1 in image; 2026.8.0 in notebookImage\n" in err
    assert "python:" not in err
    for part in (NEW, NOTEBOOK, "fix: set image and notebookImage"):
        assert part in err


def test_a_package_that_one_image_lacks_is_a_difference(check):
    """The proof would refuse it too."""
    lacking = {package: version for package, version in SAME.items() if package != "lz4"}
    _, _, err = check(Swarm(image=report(lacking), notebook=report(SAME)))
    assert "  lz4: none in image; 1 in notebookImage\n" in err


def test_images_that_install_packages_are_compared_without_them_first(check):
    """It takes seconds instead of minutes."""
    swarm = Swarm(image=report(SAME), notebook=report(SAME))
    assert 0 == check(swarm, packages=["s3fs"])[0]
    assert [None, None] == [
        template["ContainerSpec"].get("Env") for _, template, _ in swarm.created
    ]


@pytest.mark.parametrize(("installed", "code"), [(SAME, 0), (OTHER, 1)])
def test_different_images_are_compared_with_their_packages(check, installed, code):
    """A package may bring the version of the other image; pip gets its configuration."""
    swarm = Swarm(
        image=report(OTHER),
        notebook=report(SAME),
        image_with_packages=report(installed),
        notebook_with_packages=report(SAME),
    )
    assert code == check(swarm, packages=["distributed==2026.8.0", "s3fs"])[0]
    assert 4 == len(swarm.created)
    for _, template, _ in swarm.created[2:]:
        spec = template["ContainerSpec"]
        assert ["EXTRA_PIP_PACKAGES=distributed==2026.8.0 s3fs"] == spec["Env"]
        assert [PIP] == spec["Secrets"]


def test_an_image_that_does_not_start_is_refused(check):
    """The report has the error of its task."""
    code, _, err = check(Swarm(image=report(SAME)))
    assert 1 == code
    assert "checking the versions in image and notebookImage: " in err
    assert "without a result: no such image. Nothing was changed." in err


def test_a_check_that_no_node_can_run_fails_early(check):
    """The deadline may be many minutes later."""

    error = "no suitable node (scheduling constraints not satisfied on 1 node)"
    status = {"Status": {"State": "pending", "Err": error}}
    placed = TEMPLATE | {"Placement": {"Constraints": REQUEST["constraints"]}}

    class Nowhere(Swarm):
        def snapshot(self, names):
            now = super().snapshot(names)
            specs = {
                name: known | {"Spec": known["Spec"] | {"TaskTemplate": placed}}
                for name, known in now.services.items()
            }
            return Snapshot(services=specs, tasks=tuple(task | status for task in now.tasks))

        def nodes(self):
            return [node("data-1", "data-worker")]

    timing = Timing(unplaced=0.05, examine_pause=0.05)
    code, _, err = check(Nowhere(), timing, deadline_seconds=20)
    assert 1 == code
    assert "cannot start: no node carries label role=master" in err


def test_a_check_has_a_deadline(check):
    """An image may run and never answer."""
    swarm = Swarm(image=report(SAME))
    code, _, err = check(swarm, Timing(last_line=60), deadline_seconds=0.1)
    assert 1 == code
    assert "no result within 0.1 s. Nothing was changed." in err


def test_it_waits_for_computations_after_the_versions(check):
    """The question comes from the running image, on the cluster's network alone."""
    swarm = Swarm(image=report(SAME), notebook=report(SAME), idle=report({"idle": True}))
    assert 0 == check(swarm, idle_seconds=30)[0]
    key, template, request = swarm.created[-1]
    assert ("idle", OLD) == (key, template["ContainerSpec"]["Image"])
    assert ["n1"] == [network["Target"] for network in template["Networks"]]
    assert {"host": "dask_scheduler", "port": 8787, "seconds": 30} == json.loads(request)
    assert [] == template["ContainerSpec"]["Secrets"]


def test_different_images_are_refused_before_the_wait(check):
    """There is nothing to wait for."""
    swarm = Swarm(image=report(OTHER), notebook=report(SAME), idle=report({"idle": True}))
    assert 1 == check(swarm, idle_seconds=30)[0]
    assert "idle" not in [key for key, *_ in swarm.created]


def test_a_busy_cluster_is_reported_at_the_deadline(check):
    """The message has the key, the tasks and the fix."""
    swarm = Swarm(idle={"failure": "2 tasks run, 9 wait"})
    code, _, err = check(swarm, images={}, idle_seconds=30)
    assert 1 == code
    assert "idleDeadline: not idle after 30 s: 2 tasks run, 9 wait. Nothing was changed." in err
    assert "pulumi config set idleDeadline 0" in err
    assert ["idle"] == [key for key, *_ in swarm.created]


def test_without_a_running_scheduler_there_is_nothing_to_wait_for(check):
    """The deployment may be the repair."""
    swarm = Swarm(state="failed")
    code, _, err = check(swarm, images={}, idle_seconds=30)
    assert (0, []) == (code, swarm.created)
    assert "no task of dask_scheduler runs" in err


def test_an_empty_request_asks_nothing(monkeypatch, capsys):
    """Nothing changes: the manager is not asked."""
    monkeypatch.setattr(upgrade, "Manager", None)
    monkeypatch.setattr("sys.stdin", io.StringIO("{}"))
    assert 0 == upgrade.main()
    assert ["seconds"] == [*json.loads(capsys.readouterr().out)]


@pytest.mark.parametrize("text", ["", "[1]", '{"images": {}}'])
def test_an_invalid_request_is_refused(monkeypatch, capsys, text):
    """It is an error of the program, not of the Swarm."""
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert 1 == upgrade.main()
    assert "the request on standard input is not understood" in capsys.readouterr().err
