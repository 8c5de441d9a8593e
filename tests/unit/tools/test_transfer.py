"""The one-shot services of a backup or restore: their rights, their start, their leftovers."""

import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from types import SimpleNamespace

import pytest
from docker.errors import DockerException

from components.certificates import AUTHORITIES, FILE_NAME
from health.job import DEADLINE_LABEL
from swarm.manager import PROBE_LABELS, Manager, cluster_of
from swarm.progress import Progress
from swarm.snapshot import Snapshot
from tools import transfer
from tools.transfer import CAN_READ, CAN_WRITE, LABEL, Place, Runtime, TransferError

NODE = {
    "ID": "n1",
    "Description": {"Hostname": "a"},
    "Spec": {"Availability": "active"},
    "Status": {"State": "ready"},
}
PLACE = Place(volume="dask-notebook", node=NODE)
KEY = {
    "File": {"Name": FILE_NAME, "UID": "1000", "GID": "0", "Mode": 0o440},
    "SecretID": "s1",
    "SecretName": "dask-tls-client-1",
}
TRUSTED = {
    "File": {"Name": AUTHORITIES, "UID": "0", "GID": "0", "Mode": 0o444},
    "ConfigID": "c1",
    "ConfigName": "dask-tls-authorities-1",
}
# Replaces ssh, and answers like the engine behind it: the command prints what it reads.
ENGINE = r"""
import os, sys
def answer(body):
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    os.write(1, f"{head}\r\n\r\n{body}".encode())
def frame(kind, data):
    sys.stdout.buffer.write(bytes([kind, 0, 0, 0]) + len(data).to_bytes(4, "big") + data)
    sys.stdout.buffer.flush()
while line := sys.stdin.buffer.readline():
    length = 0
    while (header := sys.stdin.buffer.readline().lower()) != b"\r\n":
        if header.startswith(b"content-length:"):
            length = int(header.partition(b":")[2])
    sys.stdin.buffer.read(length)
    if b"/version" in line:
        answer('{"ApiVersion": "1.41"}')
    elif b"/containers/id/exec" in line:
        answer('{"Id": "exec"}')
    elif b"/exec/exec/start" in line:
        os.write(1, b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        while data := os.read(0, 65536):
            frame(1, data)
        frame(2, b"no such file")
        break
"""
OTHER = {"File": {"Name": "notebook_token"}}


def service(**files):
    container = {"Image": "notebook@sha256:1", **files}
    return {"Spec": {"Name": "blue_notebook", "TaskTemplate": {"ContainerSpec": container}}}


@pytest.fixture
def runtime():
    """Return the runtime of a notebook with TLS."""
    return Runtime.beside(service(Secrets=[OTHER, KEY], Configs=[TRUSTED]), "net")


def test_the_files_of_tls_are_the_notebooks(runtime):
    """No other secret comes along; without TLS there is none."""
    assert ([KEY], [TRUSTED], "notebook@sha256:1") == (
        runtime.secrets,
        runtime.configs,
        runtime.image,
    )
    assert {"certificate": f"/run/secrets/{FILE_NAME}", "authorities": AUTHORITIES} == runtime.tls
    plain = Runtime.beside(service(Secrets=[OTHER]), "net")
    assert ([], [], {}) == (plain.secrets, plain.configs, plain.tls)


@pytest.mark.parametrize(("read_only", "rights"), [(True, CAN_READ), (False, CAN_WRITE)])
def test_an_agent_has_the_rights_that_it_needs(runtime, read_only, rights):
    """It can write to its volume only for a restore, and to nothing else but `/tmp`."""
    spec = transfer._agent_spec("name", runtime, PLACE, "0f1e2d", read_only=read_only)
    container = spec["task_template"]["ContainerSpec"]
    tmp, volume = container["Mounts"]
    assert ("dask-notebook", "/volume", read_only) == (
        *(volume[key] for key in ("Source", "Target")),
        volume.get("ReadOnly", False),
    )
    assert volume["VolumeOptions"]["NoCopy"]
    assert ("/tmp", None) == (tmp["Target"], tmp["Source"])
    assert (True, ["ALL"], [*rights]) == tuple(
        container[key] for key in ("ReadOnly", "CapabilityDrop", "CapabilityAdd")
    )
    assert KEY == container["Secrets"][0]
    assert TRUSTED == container["Configs"][0]
    assert ["node.id==n1"] == spec["task_template"]["Placement"]["Constraints"]
    (network,) = spec["task_template"]["Networks"]
    assert "net" == network["Target"]
    assert {**PROBE_LABELS, LABEL: "net"}.items() <= spec["labels"].items()
    assert "0f1e2d" not in str(spec)


def test_the_relay_has_no_rights(runtime):
    """It runs as an ordinary user and has no volume."""
    container = transfer._relay_spec("name", runtime, NODE)["task_template"]["ContainerSpec"]
    assert ("1000:1000", True, ["ALL"]) == tuple(
        container[key] for key in ("User", "ReadOnly", "CapabilityDrop")
    )
    assert not {"Mounts", "CapabilityAdd"} & container.keys()


def test_a_command_is_attached_through_ssh(tmp_path, monkeypatch):
    """Its output may be larger than a pipe, and its end is an error for who waits for more."""
    (tmp_path / "ssh").write_text(f"#!{sys.executable}\n{ENGINE}")
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    manager = Manager("ssh://deploy@manager")
    attached = transfer.Attached(manager.attach("id", ["cat"]))
    sent = bytes(range(256)) * 4096
    with ThreadPoolExecutor(1) as executor, closing(manager._api), closing(attached):
        writing = executor.submit(attached.write, sent)
        assert sent == attached.read(len(sent))
        writing.result()
        attached.socket.shutdown(socket.SHUT_WR)
        with pytest.raises(TransferError, match="no such file"):
            attached.read(1)


def own_node(runtime, **changed):
    manager = SimpleNamespace(node_id=lambda: "n1", nodes=lambda: [NODE | changed])
    return transfer._own_node(manager, runtime)


def test_a_drained_manager_is_named(runtime):
    """Its node would run no relay."""
    with pytest.raises(TransferError, match=r"a: the manager's node is drain.* active a$"):
        own_node(runtime, Spec={"Availability": "drain"})


@pytest.mark.parametrize("made", [["amd64"], ["amd64", "arm64"]])
def test_a_manager_of_another_platform_is_named(made):
    """It cannot run the stack's images, unless they are for both."""
    placement = {"Platforms": [{"OS": "linux", "Architecture": name} for name in made]}
    known = service()
    known["Spec"]["TaskTemplate"]["Placement"] = placement
    arm = {"Hostname": "a", "Platform": {"OS": "linux", "Architecture": "aarch64"}}
    runtime = Runtime.beside(known, "net")
    if "arm64" in made:
        assert "n1" == own_node(runtime, Description=arm)["ID"]
        return
    message = r"a: the manager's node is linux/arm64, but .* linux/amd64, so .* Fix: images for"
    with pytest.raises(TransferError, match=message):
        own_node(runtime, Description=arm)


def task(state, **status):
    return {"ServiceID": "1", "Status": {"State": state, **status}}


def snapshot(state, ends_in=60):
    labels = {DEADLINE_LABEL: str(int(time.time() + ends_in))}
    services = {"dask_transfer-1": {"ID": "1", "Spec": {"Labels": labels}}}
    return Snapshot(services=services, tasks=(task(state),))


@pytest.mark.parametrize("now", [snapshot("complete"), snapshot("running", ends_in=-1)])
def test_what_a_killed_run_left_is_removed(runtime, now):
    """Its tasks have ended, or its deadline is over."""
    removed = []
    manager = SimpleNamespace(labelled=lambda _: now, remove=removed.append)
    transfer._remove_leftovers(manager, runtime)
    assert ["dask_transfer-1"] == removed


def test_two_runs_at_once_are_refused(runtime):
    """They could work on one volume."""
    manager = SimpleNamespace(labelled=lambda _: snapshot("running"))
    with pytest.raises(TransferError, match=r"another backup or restore .* rm dask_transfer-1$"):
        transfer._remove_leftovers(manager, runtime)


class Swarm:
    """A manager that records what is done; it refuses to create the service number `refused`."""

    poll_seconds = 0

    def __init__(self, refused=None):
        self.refused, self.done, self.dismissed, self.names = refused, [], [], []

    def node_id(self):
        return "n1"

    def nodes(self):
        return [NODE]

    def labelled(self, _):
        return Snapshot(services={}, tasks=())

    def snapshot(self, _):
        return Snapshot(services={}, tasks=())

    def create(self, spec):
        self.names.append(spec["name"])
        if self.refused == len(self.done):
            raise DockerException("no leader")
        self.done.append("create")

    def scale(self, _, replicas):
        self.done.append(f"scale {replicas}")

    def remove(self, _):
        self.done.append("remove")


@pytest.fixture
def use_agents(monkeypatch, runtime):
    """Return a function that has and ends the agent of a volume on a Swarm."""

    def use(swarm, work=lambda: None):
        @contextmanager
        def reaper(name, _):
            yield lambda: swarm.dismissed.append(name)

        connection = SimpleNamespace(close=lambda: swarm.done.append("close"))
        monkeypatch.setattr(transfer, "Manager", lambda _: swarm)
        monkeypatch.setattr(transfer, "reaper", reaper)
        monkeypatch.setattr(transfer, "_wait_for_start", lambda *_: "container")
        monkeypatch.setattr(transfer, "_connect", lambda *_: connection)
        monkeypatch.setenv("DOCKER_HOST", "")
        with transfer.agents("unix:///m", runtime, [PLACE], Progress(), read_only=False):
            work()

    return use


def test_agents_end_before_their_services_are_removed(use_agents):
    """Removed services leave their tasks running for a while, on volumes that others use."""
    swarm = Swarm()
    use_agents(swarm)
    assert ["create"] * 2 + ["close"] + ["scale 0"] * 2 + ["remove"] * 2 == swarm.done
    assert 2 == len(swarm.dismissed)


def test_agents_belong_to_their_cluster(use_agents):
    """The destroy of a cluster removes its own, and not those of another cluster's backup."""
    swarm = Swarm()
    use_agents(swarm)
    assert ["blue"] * 2 == [cluster_of(name) for name in swarm.names]


def test_reapers_remove_what_a_failed_request_may_still_create(use_agents):
    """The manager may have received the request although its answer is lost."""
    swarm = Swarm(refused=1)
    with pytest.raises(DockerException, match="no leader"):
        use_agents(swarm)
    assert ["create", "scale 0", "scale 0", "remove", "remove"] == swarm.done
    assert [] == swarm.dismissed


@pytest.mark.parametrize(
    "error",
    [transfer.LostAgentError("the connection has ended"), BrokenPipeError("Broken pipe")],
    ids=["received", "sent"],
)
def test_the_end_of_an_agent_is_explained(use_agents, monkeypatch, error):
    """Swarm knows it a moment later, and not if the connection alone has ended."""
    swarm = Swarm()
    killed = task("failed", Err="task: non-zero exit (137)")
    snapshots = [Snapshot(services={}, tasks=(state,)) for state in (task("running"), killed)]
    ended = Snapshot(services={}, tasks=())
    monkeypatch.setattr(swarm, "snapshot", lambda _: snapshots.pop(0) if snapshots else ended)

    def fail():
        raise error

    with pytest.raises(TransferError, match=rf"^{error}: task: non-zero exit \(137\)$"):
        use_agents(swarm, fail)
    assert "remove" == swarm.done[-1]
    monkeypatch.setattr(transfer, "END_SECONDS", 0)
    with pytest.raises(TransferError, match=rf"^{error}$"):
        use_agents(swarm, fail)


def test_a_service_that_does_not_start_is_named(monkeypatch):
    """At once when its task has ended, otherwise at the deadline."""
    services = {"dask_transfer-1": {"ID": "1"}}
    states = [task("preparing"), task("rejected", Err="No such image: x")]
    snapshots = [Snapshot(services=services, tasks=(state,)) for state in states]
    manager = SimpleNamespace(poll_seconds=0, snapshot=lambda _: snapshots.pop(0))
    with pytest.raises(TransferError, match=r"No such image: x\. Fix: docker service ps"):
        transfer._wait_for_start(manager, ["dask_transfer-1"], Progress())
    snapshots += [Snapshot(services=services, tasks=(task("preparing"),))]
    monkeypatch.setattr(transfer, "START_SECONDS", 0)
    with pytest.raises(TransferError, match=r"did not start: preparing\. Fix: "):
        transfer._wait_for_start(manager, ["dask_transfer-1"], Progress())
