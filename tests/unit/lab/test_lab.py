"""The lab's names, its refusals, and what it takes for its own."""

import subprocess
import sys
import threading

import pytest

from lab import nameserver, packages, processes, single, swarm
from lab.__main__ import main
from lab.engine import answers
from lab.guard import only_one
from lab.layout import Lab, chosen_lab
from lab.shell import LabError, run, wait_for

NAMES = ["", "second", "a", "exactly-12ch"]


class TestLayout:
    @pytest.mark.parametrize("name", NAMES)
    def test_the_kernel_takes_the_names(self, name):
        """Interfaces have at most 15 bytes, socket paths 107."""
        lab = Lab(name=name)
        assert len(lab.link) <= 15
        assert all(len(node.name) <= 15 for node in lab.nodes)
        assert all(len(str(node.socket)) <= 107 for node in lab.nodes)

    def test_two_labs_share_nothing(self):
        """A second lab has its own directory, network, port and control group."""
        one, two = Lab(), Lab(name="second")
        for key in ("directory", "link", "switch", "gateway", "registry", "cgroup", "docker_host"):
            assert getattr(one, key) != getattr(two, key)

    def test_roles_are_those_of_the_stack(self):
        """One master, two data workers."""
        assert ["master", "data-worker", "data-worker"] == [node.role for node in Lab().nodes]

    @pytest.mark.parametrize("name", ["../etc", "Second", "1st", "a b", "far-too-long-a-name"])
    def test_odd_names_are_refused(self, name):
        """A name becomes a path that is deleted as a whole."""
        with pytest.raises(ValueError, match="DASK_SWARM_LAB"):
            Lab(name=name)

    def test_the_environment_chooses(self, monkeypatch):
        """The usual lab unless another one is named."""
        monkeypatch.delenv("DASK_SWARM_LAB", raising=False)
        assert Lab() == chosen_lab()
        monkeypatch.setenv("DASK_SWARM_LAB", "second")
        assert Lab(name="second") == chosen_lab()


class TestCommands:
    @pytest.fixture(autouse=True)
    def usual_lab(self, monkeypatch):
        """Forget the lab that the environment names, and keep PATH."""
        monkeypatch.delenv("DASK_SWARM_LAB", raising=False)
        monkeypatch.setenv("PATH", "/usr/bin")

    @pytest.mark.parametrize("command", ["up", "down", "status", "image"])
    def test_an_ordinary_user_is_refused(self, command, monkeypatch, capsys):
        """One line with the cure, and exit code 2."""
        monkeypatch.setattr("os.geteuid", lambda: 1000)
        assert 2 == main([command])
        assert "as root" in (message := capsys.readouterr().err)
        assert 1 == message.count("\n")

    def test_another_system_is_refused(self, monkeypatch, capsys):
        """A laptop's owner learns of `ready`."""
        monkeypatch.setattr("sys.platform", "darwin")
        assert 2 == main(["up"])
        assert "python -m lab ready" in capsys.readouterr().err

    def test_env_is_for_a_shell(self, capsys):
        """Only the command stands on standard output."""
        assert 0 == main(["env"])
        assert f"export DOCKER_HOST={Lab().docker_host}\n" == capsys.readouterr().out

    def test_a_second_command_waits(self, tmp_path):
        """Two commands never work on one lab at a time; the second gives up with a reason."""
        second = only_one(tmp_path, seconds=0.1)
        refused = pytest.raises(LabError, match="the end of another lab command")
        with only_one(tmp_path), only_one(tmp_path / "other lab"), refused:
            second.__enter__()

    def test_the_lock_ends_with_its_holder(self, tmp_path):
        """A killed command leaves no lock behind."""
        with only_one(tmp_path):
            pass
        with only_one(tmp_path, seconds=0.1):
            pass


class TestShell:
    def test_a_failed_command_says_why(self):
        """The command and its own words are in the message."""
        with pytest.raises(LabError, match=r"`ls /nowhere-at-all` failed: .*No such file"):
            run(["ls", "/nowhere-at-all"])

    def test_a_command_has_a_deadline(self):
        """What hangs is named."""
        with pytest.raises(LabError, match="`sleep 5` did not end within 0 s"):
            run(["sleep", "5"], seconds=0.1)

    def test_a_wait_has_a_deadline(self):
        """What never happens is named."""
        with pytest.raises(LabError, match="the flood did not happen within 0 s"):
            wait_for("the flood", lambda: False, seconds=0.1)


class TestProcesses:
    @pytest.fixture
    def start(self, tmp_path):
        """Return a function that runs a script under a name, with an argument."""
        started = []

        def run_as(program, argument):
            script = tmp_path / program
            script.write_text("import sys, time\nprint(flush=True)\ntime.sleep(60)\n")
            command = [sys.executable, str(script), str(argument)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE)
            process.stdout.readline()
            started.append(process)
            return process

        yield run_as
        for process in started:
            process.kill()
            process.wait()
            process.stdout.close()

    def test_a_program_of_the_lab_is_ended(self, start, tmp_path):
        """An engine is known by its name and the lab's directory among its arguments."""
        lab = tmp_path / "lab"
        process = start("dockerd", lab / "daemon.json")
        assert [process.pid] == processes.running(lab / "daemon.json")
        threading.Thread(target=process.wait, daemon=True).start()
        processes.end(lab, "/no-such-group")
        assert [] == processes.owned_by(lab, "/no-such-group")

    @pytest.mark.parametrize(
        ("program", "argument"),
        [("tail", "lab/engine.log"), ("dockerd", "lab-second/daemon.json"), ("dockerd", "lab")],
    )
    def test_a_stranger_is_left_alone(self, start, tmp_path, program, argument):
        """A reader of the lab's logs is not the lab, nor is another lab's engine."""
        start(program, tmp_path / argument)
        assert [] == processes.owned_by(tmp_path / "lab", "/no-such-group")


class TestNameServer:
    QUESTION = b"\x04dask\x07invalid\0\0\x01\0\x01"

    def test_no_name_is_known(self):
        """The answer repeats number and question and says that there is no such name."""
        query = b"\xab\xcd\x01\0\0\1\0\0\0\0\0\0" + self.QUESTION
        assert b"\xab\xcd\x81\x83\0\1\0\0\0\0\0\0" + self.QUESTION == nameserver.answer(query)

    def test_extensions_are_not_repeated(self):
        """An EDNS record after the question is dropped, and not counted."""
        query = b"\xab\xcd\x01\0\0\1\0\0\0\0\0\1" + self.QUESTION + b"\0\0\x29\x10\0\0\0\0\0\0\0"
        assert nameserver.answer(query).endswith(self.QUESTION)

    def test_a_cut_query_is_no_end(self):
        """What is no query raises what `serve` catches."""
        with pytest.raises(IndexError):
            nameserver.answer(b"\xab\xcd")


class TestPackages:
    def test_nothing_missing_calls_nothing(self, monkeypatch):
        """A machine that has all is not touched."""
        monkeypatch.setattr(packages, "which", lambda command: f"/usr/bin/{command}")
        monkeypatch.setattr(packages, "_install", pytest.fail)
        packages.ensure_packages()

    def test_without_apt_the_missing_are_named(self, monkeypatch):
        """Another distribution learns what to install."""
        monkeypatch.setattr(packages, "which", {}.get)
        with pytest.raises(LabError, match=r"docker\.io.* install them yourself"):
            packages.ensure_packages()

    def test_services_stay_still_while_installing(self, monkeypatch, tmp_path):
        """The policy that forbids starts is there during the install and gone after."""
        policy, seen = tmp_path / "policy-rc.d", []
        monkeypatch.setattr(packages, "_POLICY", policy)
        monkeypatch.setattr(packages, "which", {"apt-get": "/usr/bin/apt-get"}.get)
        monkeypatch.setattr(packages, "_install", lambda _: seen.append(policy.read_text()))
        packages.ensure_packages(["debootstrap"])
        assert [packages._DENY] == seen
        assert not policy.exists()

    def test_a_policy_of_somebody_else_stays(self, monkeypatch, tmp_path):
        """Only what the lab put there is taken back."""
        policy = tmp_path / "policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 0\n")
        monkeypatch.setattr(packages, "_POLICY", policy)
        packages.let_services_start()
        assert policy.exists()


class FakeEngine:
    """An engine as far as its Swarm goes."""

    def __init__(self, **membership):
        self.membership = membership

    def info(self):
        return {"Swarm": self.membership}


class TestSingle:
    def test_a_distant_engine_is_refused(self, monkeypatch):
        """What is on another machine is not set up from here."""
        monkeypatch.setenv("DOCKER_HOST", "ssh://deploy@manager")
        with pytest.raises(LabError, match="another machine"):
            single.find_engine()

    @pytest.mark.parametrize(
        ("membership", "reason"),
        [
            ({"ControlAvailable": True, "Nodes": 3}, "a Swarm of 3 nodes"),
            ({"ControlAvailable": False, "Nodes": 0}, "a worker in a Swarm"),
        ],
    )
    def test_a_larger_swarm_is_refused(self, membership, reason):
        """Somebody's Swarm stays as it is."""
        engine = FakeEngine(LocalNodeState="active", **membership)
        with pytest.raises(LabError, match=reason):
            single._ensure_swarm(engine, "unix:///x")

    def test_a_locked_swarm_is_refused(self):
        """A state that a person must mend is named."""
        with pytest.raises(LabError, match="is locked"):
            single._ensure_swarm(FakeEngine(LocalNodeState="locked"), "unix:///x")


def test_a_socket_without_engine_does_not_answer(tmp_path):
    """Nothing there is a plain no."""
    assert not answers(f"unix://{tmp_path}/docker.sock")


def test_a_node_that_has_not_reported_has_no_name():
    """A node's first moments in the Swarm are without a description."""
    assert "" == swarm._hostname({"Description": {}})
