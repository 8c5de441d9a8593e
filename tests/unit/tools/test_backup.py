"""What a backup and a restore do on the Swarm, in which order, and what they refuse."""

import os
import signal
from contextlib import contextmanager
from subprocess import CalledProcessError
from types import SimpleNamespace

import pytest

from swarm import shutdown
from swarm.snapshot import Snapshot
from tools import backup, volume_agent
from tools.transfer import TransferError

MASTER = "node.labels.role==master"
SERVICES = {"notebook": "dask_notebook", "caddy": "dask_caddy"}
STATE = {
    "resources": [
        {"type": "pulumi:providers:docker", "urn": "x::swarm", "inputs": {"host": "ssh://m"}},
        {"type": "s", "urn": "x::dask-notebook-service", "id": "dask_notebook"},
        {"type": "s", "urn": "x::front-caddy", "id": "dask_caddy"},
    ]
}


def node(name, role="master", availability="active"):
    return {
        "ID": name,
        "Description": {"Hostname": name},
        "Spec": {"Availability": availability, "Labels": {"role": role}, "Role": "manager"},
        "Status": {"State": "ready"},
    }


class Swarm:
    """A manager whose services start and stop at once; `steps` are all changes in order."""

    poll_seconds = 0

    def __init__(self):
        self.steps, self.hosts = [], []
        self.replicas = dict.fromkeys(SERVICES.values(), 1)
        self.node_list = [node("a"), node("b", role="data-worker")]

    def connect(self, host):
        self.hosts.append(host)
        return self

    def nodes(self):
        return self.node_list

    def objects(self, kind):
        if kind == "network":
            return [
                {"Id": "other", "Name": "caddy-network"},
                {"Id": "net", "Name": "dask-network"},
            ]
        return [self._service(name) for name in self.replicas]

    def _service(self, name):
        files = {"Secrets": None, "Configs": None, "Image": "dask@sha256:1"}
        mounts = [{"Target": "/tmp"}, {"Target": "/home", "Source": f"{name}-files"}]
        return {
            "ID": name,
            "Spec": {
                "Name": name,
                "Mode": {"Replicated": {"Replicas": self.replicas[name]}},
                "TaskTemplate": {
                    "ContainerSpec": {"Mounts": mounts, **files},
                    "Placement": {
                        "Constraints": [MASTER],
                        "Platforms": [{"OS": "linux", "Architecture": "amd64"}],
                    },
                },
            },
        }

    def snapshot(self, names):
        tasks = [self._task(name) for name in names if self.replicas[name]]
        return Snapshot(services={n: self._service(n) for n in names}, tasks=tuple(tasks))

    def _task(self, name):
        return {
            "ServiceID": name,
            "NodeID": "a",
            "DesiredState": "running",
            "Status": {"State": "running"},
        }

    def scale(self, name, replicas):
        self.steps.append(f"{name} {replicas}")
        self.replicas[name] = replicas


class Agent:
    """An agent of a volume that does as it is asked, or raises what `swarm.failures` has."""

    def __init__(self, volume, swarm):
        self.volume, self.swarm = volume, swarm

    def _do(self, action):
        self.swarm.steps.append(f"{action} {self.volume}")
        if failure := self.swarm.failures.get(f"{action} {self.volume}"):
            failure()

    def pack(self, about, target):
        self._do("pack")
        folder = target.parent / self.volume
        folder.mkdir()
        (folder / "file").write_text("content")
        with target.open("wb") as file:
            volume_agent.pack(folder, file, about)
        (folder / "file").unlink()
        folder.rmdir()

    def unpack(self, archive):
        self._do("unpack")

    def swap(self):
        self._do("swap")
        return {"lost": ["a", "b"], "lost_count": 7, "changed_count": 3}

    def commit(self):
        self._do("commit")


@pytest.fixture
def swarm(monkeypatch):
    """Have a Swarm with a stack that keeps a home and certificates."""
    swarm = Swarm()
    swarm.failures = {}

    @contextmanager
    def agents(address, runtime, places, progress, *, read_only):
        swarm.steps.append(f"agents that {'read' if read_only else 'write'}")
        try:
            yield [Agent(place.volume.removesuffix("-files"), swarm) for place in places]
        finally:
            swarm.steps.append("agents have ended")

    monkeypatch.setattr(backup, "Manager", swarm.connect)
    monkeypatch.setattr(backup, "agents", agents)
    monkeypatch.setattr(shutdown, "TIMEOUT_SECONDS", 0)
    return swarm


@pytest.fixture
def runner():
    """Return the runner of the deployed stack."""
    return SimpleNamespace(stack="prod", state=lambda: STATE)


@pytest.fixture
def folder(swarm, runner, tmp_path):
    """Return the folder of a backup."""
    backup.backup(runner, tmp_path / "backup")
    swarm.steps.clear()
    swarm.hosts.clear()
    return tmp_path / "backup"


def fail():
    raise TransferError("no space left")


def test_a_backup_reads_every_volume_and_stops_nothing(swarm, runner, tmp_path, capsys):
    """Its folder is for this user alone, and has an archive of each volume."""
    target = tmp_path / "backups" / "1"
    assert 0 == backup.run(runner, "backup", folder=target, made_by="prod")
    expected = ["agents that read", "pack dask_notebook", "pack dask_caddy", "agents have ended"]
    assert expected == swarm.steps
    assert {"ssh://m"} == set(swarm.hosts)
    assert ["caddy.tar.gz", "notebook.tar.gz"] == sorted(path.name for path in target.iterdir())
    assert 0o700 == target.stat().st_mode & 0o777
    printed = capsys.readouterr()
    assert f"Backup of prod: {target}. It holds secrets" in printed.out
    assert "the notebook's home (dask_notebook-files on a): 1 files, " in printed.err


def test_files_that_may_not_be_as_they_were_are_named(tmp_path, capsys):
    """The backup has them, and everything else."""
    (tmp_path / "archive").touch()
    manifest = {"files": {}, "cut": ["files/log"], "locked": ["files/a.db", "files/b.db"]}
    backup._report("home", tmp_path / "archive", manifest)
    printed = capsys.readouterr().err
    assert "shortened while they were read, so not as they were: files/log\n" in printed
    assert "s, so the copies may be damaged: files/a.db, files/b.db. Fix: end the" in printed


def test_an_unfinished_backup_is_removed(swarm, runner, tmp_path, capsys):
    """It would hold secrets and restore nothing."""
    swarm.failures["pack dask_caddy"] = fail
    assert 1 == backup.run(runner, "backup", folder=tmp_path / "1", made_by="prod")
    assert [] == [*tmp_path.iterdir()]
    assert "no space left" in capsys.readouterr().err


def test_a_backup_overwrites_nothing(runner, folder):
    """An older backup stays as it is."""
    with pytest.raises(TransferError, match=r"exists already\. Fix: "):
        backup.backup(runner, folder)


def test_services_stop_between_the_transfer_and_the_end_of_the_swap(swarm, runner, folder, capsys):
    """All of them, and they start when no agent works any more."""
    assert 0 == backup.run(runner, "restore", folder=folder, made_by="prod")
    assert [
        "agents that write",
        "unpack dask_notebook",
        "unpack dask_caddy",
        "dask_notebook 0",
        "dask_caddy 0",
        "swap dask_notebook",
        "swap dask_caddy",
        "commit dask_notebook",
        "commit dask_caddy",
        "agents have ended",
        "dask_notebook 1",
        "dask_caddy 1",
    ] == swarm.steps
    printed = capsys.readouterr().err
    assert "the notebook's home (dask_notebook-files on a): restored from 2" in printed
    assert "does not have: removed 7 (a, b and 5 more); replaced 3" in printed


def test_a_failed_transfer_stops_nothing(swarm, runner, folder, capsys):
    """The new files lie beside the old files."""
    swarm.failures["unpack dask_caddy"] = fail
    assert 1 == backup.run(runner, "restore", folder=folder, made_by="prod")
    assert "no space left; nothing is restored" in capsys.readouterr().err
    assert ["unpack dask_caddy", "agents have ended"] == swarm.steps[-2:]
    assert not {"dask_notebook 0", "swap dask_notebook"} & set(swarm.steps)


def send(number):
    """Return a function that sends this process a signal."""
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    "failure",
    [fail, send(signal.SIGTERM), send(signal.SIGHUP)],
    ids=["error", "signal", "closed terminal"],
)
def test_a_failed_swap_restores_no_volume(swarm, runner, folder, capsys, failure):
    """The agents put the old files back when they end, and the services start with them."""
    handler = signal.getsignal(signal.SIGTERM)
    swarm.failures["swap dask_caddy"] = failure
    assert 1 == backup.run(runner, "restore", folder=folder, made_by="prod")
    assert "; nothing is restored" in capsys.readouterr().err
    assert ["agents have ended", "dask_notebook 1", "dask_caddy 1"] == swarm.steps[-3:]
    assert "commit dask_notebook" not in swarm.steps
    assert handler == signal.getsignal(signal.SIGTERM)


def test_a_service_that_another_deployment_starts_is_not_changed(swarm, runner, folder):
    """The new files are not kept under a running service."""
    swarm.failures["swap dask_caddy"] = lambda: swarm.scale("dask_notebook", 1)
    with pytest.raises(TransferError, match="dask_notebook: the service still runs"):
        backup.restore(runner, folder, "prod")
    assert "commit dask_notebook" not in swarm.steps


def test_a_service_that_does_not_start_again_is_named(swarm, runner, folder, monkeypatch):
    """The files are restored; only the user can find out what it lacks."""
    monkeypatch.setattr(backup, "START_SECONDS", 0)
    monkeypatch.setattr(swarm, "scale", lambda name, _: swarm.replicas.update({name: 0}))
    start_all = lambda _: swarm.replicas.update(dict.fromkeys(swarm.replicas, 1))  # noqa: E731
    monkeypatch.setattr(backup.time, "sleep", start_all)  # too late
    message = r"the files are restored, but the service does not run within 0 s: no error\. Fix: "
    with pytest.raises(TransferError, match=message):
        backup.restore(runner, folder, "prod")


@pytest.mark.parametrize("refused", [["dask_notebook"], ["dask_notebook", "dask_caddy"]])
def test_every_service_that_cannot_be_started_is_named(
    swarm, runner, folder, monkeypatch, capsys, refused
):
    """One command starts them all, and the others have started."""
    scale = swarm.scale

    def refuse(name, replicas):
        if replicas and name in refused:
            raise OSError("no leader")
        scale(name, replicas)

    monkeypatch.setattr(swarm, "scale", refuse)
    assert 1 == backup.run(runner, "restore", folder=folder, made_by="prod")
    assert refused == [name for name, count in swarm.replicas.items() if not count]
    printed = capsys.readouterr().err
    command = " ".join(["docker service scale", *(f"{name}=1" for name in refused)])
    assert f"services are stopped. Fix: {command}\nno leader; restored: " in printed


def test_what_was_restored_before_a_failure_is_named(swarm, runner, folder):
    """The user must know which files are new."""
    swarm.failures["commit dask_caddy"] = fail
    with pytest.raises(TransferError, match=r"restored: the notebook's home \(.*\)$"):
        backup.restore(runner, folder, "prod")


def test_one_archive_restores_its_volume_alone(swarm, runner, folder, capsys):
    """The other volume is named."""
    backup.restore(runner, folder / "caddy.tar.gz", "prod")
    assert "dask_notebook 0" not in swarm.steps
    assert "swap dask_caddy" in swarm.steps
    assert "home (dask_notebook-files on a): not in the backup" in capsys.readouterr().err


def test_what_the_stack_does_not_keep_is_not_restored(swarm, runner, folder, capsys):
    """A stack without a Caddy of its own takes the notebook's home alone."""
    runner.state = lambda: {"resources": STATE["resources"][:-1]}
    backup.restore(runner, folder, "prod")
    assert "Caddy's certificates: not restored" in capsys.readouterr().err
    with pytest.raises(TransferError, match="nothing that prod keeps is in this backup"):
        backup.restore(runner, folder / "caddy.tar.gz", "prod")


def test_a_killed_restore_leaves_a_service_that_the_next_restore_starts(swarm, runner, folder):
    """It has no task, but only one node fits."""
    swarm.replicas["dask_notebook"] = 0
    backup.restore(runner, folder, "prod")
    assert 1 == swarm.replicas["dask_notebook"]


def test_a_node_of_another_platform_has_no_volume(swarm, runner, folder):
    """Swarm starts the service nowhere else."""
    other = node("c")
    other["Description"]["Platform"] = {"OS": "linux", "Architecture": "aarch64"}
    swarm.node_list.append(other)
    backup.restore(runner, folder, "prod")
    assert "swap dask_caddy" in swarm.steps


class TestNothingIsTouched:
    """What is wrong is refused before the Swarm is asked, or before it changes."""

    def refused(self, swarm, runner, source, match, made_by="prod"):
        with pytest.raises((TransferError, volume_agent.BrokenArchiveError), match=match):
            backup.restore(runner, source, made_by)
        assert [] == swarm.steps

    def test_without_a_backup(self, swarm, runner, tmp_path):
        """Neither named, nor there, nor with an archive."""
        self.refused(swarm, runner, None, "BACKUP: not set. Expected: .* Fix: make restore")
        self.refused(swarm, runner, tmp_path / "none", "BACKUP: .*none. Expected: ")
        self.refused(swarm, runner, tmp_path, "no .tar.gz is in this folder")

    def test_by_a_broken_archive(self, swarm, runner, folder):
        """One of several is enough."""
        archive = folder / "notebook.tar.gz"
        archive.write_bytes(archive.read_bytes()[:-9])
        self.refused(swarm, runner, folder, "notebook.tar.gz: ")
        assert [] == swarm.hosts

    def test_by_two_archives_of_a_volume(self, swarm, runner, folder):
        """The second could be of another day."""
        (folder / "other.tar.gz").write_bytes((folder / "notebook.tar.gz").read_bytes())
        self.refused(swarm, runner, folder, "'notebook' is not a volume's role")

    def test_by_another_stacks_backup(self, swarm, runner, folder):
        """Unless that stack is named."""
        runner.stack = "test"
        self.refused(
            swarm, runner, folder, "the stack prod, not of test. Fix: .* FROM=prod", "test"
        )
        assert [] == swarm.hosts
        backup.restore(runner, folder, "prod")

    def test_where_several_nodes_fit(self, swarm, runner, folder):
        """Swarm could start the service beside another volume."""
        swarm.node_list.append(node("c"))
        self.refused(
            swarm, runner, folder, "controlPlacement fits a, c, but .* Fix: pulumi config"
        )
        swarm.node_list = [node("a", availability="drain")]
        self.refused(swarm, runner, folder, "fits no node that is ready")

    def test_where_the_volume_is_not_known(self, swarm, runner, folder):
        """The service has no task, and several nodes fit."""
        swarm.node_list.append(node("c"))
        swarm.replicas["dask_notebook"] = 0
        self.refused(swarm, runner, folder, "dask_notebook: the service does not run, and 2 nodes")

    def test_without_a_deployment(self, swarm, runner, folder):
        """The state is empty, is not there, or names what the Swarm does not have."""
        runner.state = dict
        self.refused(swarm, runner, folder, "prod: the stack is not deployed. Fix: make up")
        del swarm.replicas["dask_caddy"]
        runner.state = lambda: STATE
        self.refused(swarm, runner, folder, "does not have the service of caddy. Fix: make up")

        def missing():
            raise CalledProcessError(1, "pulumi", stderr="error: no stack named 'prod' found\n")

        runner.state = missing
        self.refused(swarm, runner, folder, "prod: error: no stack named 'prod' found")
