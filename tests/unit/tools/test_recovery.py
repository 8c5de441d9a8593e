"""A killed deployment's lock and leftovers are removed; a live deployment's never."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from swarm.leftovers import Leftover
from tools import deploy, recovery
from tools.recovery import RecoveryError, stale_locks
from tools.runners import Finished, PulumiRunner

HERE = socket.gethostname()
OWN = Leftover(kind="network", name="dask-network", id="n1", is_own=True)
FOREIGN = Leftover(kind="network", name="dask-network", id="n1", is_own=False)
ROOT_URN = "urn:pulumi:dev::dask-swarm::pulumi:pulumi:Stack::dask-swarm-dev"
STATE = {
    "resources": [
        {"type": "pulumi:pulumi:Stack", "urn": ROOT_URN},
        {"type": "pulumi:providers:docker", "urn": "p", "inputs": {"host": "unix:///m"}},
    ],
    "pending_operations": [{"type": "creating", "resource": {"type": "t", "inputs": {}}}],
}


@pytest.fixture
def ended():
    """Return the id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def lock(tmp_path):
    """Return a lock's file; the CLI shows its path as a URL."""
    path = tmp_path / "a lock.json"
    path.touch()
    return path


def locked(*holders, lock=Path("/lock.json"), scheme="file", count=None):
    """Return the CLI's error for locks of these (host, pid)."""
    first = (
        f"error: the stack is currently locked by {count or len(holders)} lock(s). Either wait "
        "for the other process(es) to end or delete the lock file with `pulumi cancel`."
    )
    url = lock.as_uri().replace("file", scheme, 1)
    lines = [
        f"  {url}?no_tmp_dir=true: created by root@{host} (pid {pid}) at 2026-11-26T21:46:16Z"
        for host, pid in holders
    ]
    return "\n".join([first, *lines]) + "\n"


class TestStaleLock:
    def test_the_lock_of_an_ended_process_is_stale(self, ended, lock):
        """Also with several locks."""
        assert [lock] == stale_locks(locked((HERE, ended), lock=lock))
        assert [lock, lock] == stale_locks(locked((HERE, ended), (HERE, ended), lock=lock))

    def test_the_lock_of_a_live_process_is_not(self, ended):
        """One live process among the holders is enough."""
        assert [] == stale_locks(locked((HERE, os.getpid())))
        assert [] == stale_locks(locked((HERE, ended), (HERE, os.getpid())))

    def test_the_lock_of_another_users_process_is_not(self, monkeypatch):
        """It cannot be asked, but it runs."""

        def refuse(*_):
            raise PermissionError

        monkeypatch.setattr(os, "kill", refuse)
        assert [] == stale_locks(locked((HERE, 1)))

    def test_the_lock_of_a_killed_child_that_nobody_collected_is_stale(self, lock):
        """A container's first process may not collect them."""
        process = subprocess.Popen([sys.executable, "-c", ""])
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        try:
            assert [lock] == stale_locks(locked((HERE, process.pid), lock=lock))
        finally:
            process.wait()

    def test_the_lock_of_another_machine_is_not(self, ended):
        """Its processes cannot be seen from here, and machines may share a name."""
        assert [] == stale_locks(locked((f"not-{HERE}", ended)))
        assert [] == stale_locks(locked((HERE, ended), scheme="s3"))

    def test_a_lock_that_is_not_described_is_not(self, ended):
        """The message counts more locks than it describes."""
        assert [] == stale_locks(locked((HERE, ended), count=2))

    def test_another_error_is_no_lock(self):
        """Nothing is removed for it."""
        conflict = "error: [409] Conflict: Another update is currently in progress.\n"
        assert [] == stale_locks(conflict)
        assert [] == stale_locks("")


class Runner(PulumiRunner):
    """A stack whose CLI answers from a script, and records its calls."""

    def __new__(cls, *_, **__):
        return object.__new__(cls)

    def __init__(self, state, *, error="", statuses=()):
        script = {"state": state, "error": error, "statuses": [*statuses], "calls": []}
        for name, value in script.items():
            object.__setattr__(self, name, value)

    def create(self):
        pass

    def outputs(self, **_):
        return {}

    def ask(self, *command):
        if command[:3] == ("stack", "import", "--file"):
            command, path = command[:3], Path(command[3])
            object.__setattr__(self, "state", json.loads(path.read_text())["deployment"])
        self.calls.append(" ".join(command))
        return Finished([], 0, json.dumps({"deployment": self.state}), "")

    def run(self, action, *options, capture=False):
        self.calls.append(" ".join([action, *options]))
        if action == "refresh":
            assert capture
            error, _ = self.error, object.__setattr__(self, "error", "")
            return Finished([], 1 if error else 0, "", error)
        return Finished([], self.statuses.pop(0), None, None)


PROBE = f"refresh --non-interactive --skip-pending-creates --target {ROOT_URN}"
CLEAR = f"refresh --non-interactive --clear-pending-creates --target {ROOT_URN}"


@pytest.fixture
def swarm(monkeypatch):
    """Have a Swarm with one leftover; return what is removed, and the leftovers."""
    fake = SimpleNamespace(removed=[], found=[OWN])
    monkeypatch.setattr(recovery, "Manager", lambda host: host)
    monkeypatch.setattr(recovery.leftovers, "find", lambda *_: fake.found)
    remove = lambda *arguments: fake.removed.append(arguments[:3])  # noqa: E731
    monkeypatch.setattr(recovery.leftovers, "remove", remove)
    return fake


def test_leftovers_are_removed_between_the_check_of_the_lock_and_the_clearing(swarm):
    """An interrupted repair can be repeated, because the state still has the creations."""
    runner = Runner(STATE)
    recovery.recover(runner)
    assert ["stack export", PROBE, "stack export", CLEAR] == runner.calls
    assert [("unix:///m", [OWN], [])] == swarm.removed


def test_nothing_is_removed_from_under_a_live_deployment(swarm):
    """Its creations are unfinished, too. The CLI's own error has the fix."""
    runner = Runner(STATE, error=locked((HERE, os.getpid())))
    with pytest.raises(RecoveryError, match=r"locked by 1 lock.*pulumi cancel"):
        recovery.recover(runner)
    assert ["stack export", PROBE] == runner.calls
    assert [] == swarm.removed


def test_a_deployment_that_has_just_finished_loses_nothing(swarm, monkeypatch):
    """The state is read again once the stack is not locked."""
    runner, states = Runner(STATE), []
    finish = {"pending_operations": []}

    def finished(_, state):
        states.append(state)
        return []

    def refresh(*_, **__):
        object.__setattr__(runner, "state", STATE | finish)
        return Finished([], 0, "", "")

    monkeypatch.setattr(recovery.leftovers, "find", finished)
    monkeypatch.setattr(Runner, "run", refresh)
    recovery.recover(runner)
    assert [STATE | finish] == states


def test_a_killed_deployments_lock_is_removed_first(swarm, ended, lock):
    """Then its leftovers."""
    runner = Runner(STATE, error=locked((HERE, ended), lock=lock))
    recovery.recover(runner)
    assert ["stack export", PROBE, "stack export", CLEAR] == runner.calls
    assert (False, 1) == (lock.exists(), len(swarm.removed))


def test_what_was_deleted_and_not_replaced_is_not_deleted_again(swarm):
    """Without the mark the engine reads it, finds out that it is gone, and creates it."""
    kinds = {"serviceConfig:ServiceConfig": "config", "service:Service": "service"}
    docker = [{"type": f"docker:index/{kind}", "urn": urn} for kind, urn in kinds.items()]
    command = {"type": "command:local:Command", "urn": "c", "pendingReplacement": True}
    waiting = [resource | {"pendingReplacement": True} for resource in docker]
    runner = Runner({"resources": [*STATE["resources"], *waiting, command]})
    recovery.recover(runner)
    assert ["stack export", "stack import --file"] == runner.calls[-2:]
    assert [*docker, command] == runner.state["resources"][2:]


def test_a_finished_deployment_needs_no_recovery(swarm):
    """The check of its state is all that it costs."""
    runner = Runner(STATE | {"pending_operations": []})
    recovery.recover(runner)
    assert (["stack export"], []) == (runner.calls, swarm.removed)


@pytest.mark.parametrize(
    "request_", ["r", {"4dabf18193072939515e22adb298388d": "1", "plaintext": '"r"'}]
)
def test_a_killed_installation_is_undone(swarm, tmp_path, capsys, request_):
    """A destroy would leave the file in an existing Caddy; its request may be a secret."""
    delete = "echo removed; cat >$FILE"
    inputs = {"create": "put", "delete": delete, "stdin": request_}
    inputs["environment"] = {"FILE": str(tmp_path / "file")}
    command = {"type": "command:local:Command", "urn": "c", "inputs": inputs}
    runner = Runner(STATE | {"pending_operations": [{"type": "creating", "resource": command}]})
    recovery.recover(runner)
    assert ["stack export --show-secrets", CLEAR] == runner.calls[-2:]
    assert "r" == (tmp_path / "file").read_text()
    assert "removed\n" == capsys.readouterr().err


def test_another_stacks_object_is_named_and_stays(swarm, capsys):
    """The provider's error would not say what to do."""
    swarm.found = [FOREIGN]
    recovery.recover(Runner(STATE))
    expected = (
        "dask-network: the network is not this stack's, so it stays. "
        "Fix: destroy its stack, or docker network rm dask-network\n"
    )
    assert capsys.readouterr().err.endswith(expected)


def test_a_swarm_that_does_not_answer_is_reported(monkeypatch):
    """The unfinished creations stay in the state."""

    def refuse(_):
        raise ConnectionRefusedError("Connection refused")

    monkeypatch.setattr(recovery, "Manager", refuse)
    runner = Runner(STATE)
    with pytest.raises(RecoveryError, match="the Swarm manager at unix:///m: Connection refused"):
        recovery.recover(runner)
    assert CLEAR not in runner.calls


@pytest.mark.parametrize("action", ["up", "destroy"])
def test_a_deployment_that_only_its_lock_stopped_runs_again(monkeypatch, action, ended, lock):
    """A deployment that was killed between two creations leaves nothing but its lock."""
    monkeypatch.setattr(deploy, "summary", lambda *_: "proven")
    monkeypatch.setattr(Runner, "output_command", lambda *_: "")
    runner = Runner({}, error=locked((HERE, ended), lock=lock), statuses=[255, 0])
    assert 0 == deploy.deploy(runner, action)
    probe = PROBE.partition(" --target")[0]
    assert [action, "stack export", probe, action] == runner.calls[1:]
    assert not lock.exists()


def test_a_destroy_ends_the_tasks_of_an_unfinished_stack(swarm):
    """The stack has no shutdown yet, which would end them before the network is removed."""
    inputs = {"name": "dask_worker", "mode": {"replicated": {"replicas": 4}}}
    known = {"type": "docker:index/service:Service", "urn": "w", "inputs": inputs}
    runner = Runner({"resources": [*STATE["resources"], known]}, statuses=[0])
    assert 0 == deploy.deploy(runner, "destroy")
    assert [("unix:///m", [OWN], ["dask_worker"])] == swarm.removed


def test_a_failed_deployment_does_not_run_again():
    """There is no lock to remove."""
    runner = Runner({}, statuses=[255])
    assert 255 == deploy.deploy(runner, "up")
    assert 1 == runner.calls.count("up")


def test_recover_only_recovers(swarm):
    """For those who then run `pulumi up` or `pulumi destroy` themselves."""
    runner = Runner(STATE)
    assert 0 == deploy.deploy(runner, "recover")
    assert ["stack export", PROBE, "stack export", CLEAR] == runner.calls
    assert swarm.removed


def test_a_preview_changes_nothing(swarm):
    """Neither on the Swarm nor in the state."""
    runner = Runner(STATE, statuses=[0])
    assert 0 == deploy.deploy(runner, "preview")
    assert (["preview"], []) == (runner.calls, swarm.removed)
