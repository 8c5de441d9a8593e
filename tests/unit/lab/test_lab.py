"""The lab's names, its refusals, and the processes that it ends."""

import signal

import pytest

from lab import cluster, debian, processes, single, swarm
from lab.__main__ import main
from lab.engine import answers
from lab.layout import Lab, chosen_lab
from lab.shell import LabError, only_one, run, wait_for

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
        monkeypatch.delenv("DASK_SWARM_LAB_ENGINE", raising=False)
        assert Lab() == chosen_lab()
        monkeypatch.setenv("DASK_SWARM_LAB", "second")
        assert Lab(name="second") == chosen_lab()
        monkeypatch.setenv("DASK_SWARM_LAB_ENGINE", "forky")
        assert Lab(name="second", engine="forky") == chosen_lab()

    def test_nodes_have_the_chosen_engine(self):
        """Only the nodes: images are built by the engine of this machine."""
        assert {None} == {node.root for node in Lab().nodes}
        lab = Lab(engine="forky")
        assert {lab.debian} == {node.root for node in lab.nodes}
        assert lab.builder.root is None

    def test_other_engines_are_refused(self):
        """The message names the engine that there is."""
        with pytest.raises(ValueError, match=r"DASK_SWARM_LAB_ENGINE: 'sid'.*'forky'"):
            Lab(engine="sid")


class TestCommands:
    @pytest.fixture(autouse=True)
    def usual_lab(self, monkeypatch):
        """Forget the lab that the environment names, and keep PATH."""
        monkeypatch.delenv("DASK_SWARM_LAB", raising=False)
        monkeypatch.delenv("DASK_SWARM_LAB_ENGINE", raising=False)
        monkeypatch.setenv("PATH", "/usr/bin")

    @pytest.mark.parametrize("command", ["up", "down", "status", "image"])
    def test_an_ordinary_user_is_refused(self, command, monkeypatch, capsys):
        """One line with the fix, and exit code 2."""
        monkeypatch.setattr("os.geteuid", lambda: 1000)
        assert 2 == main([command])
        assert "as root" in (message := capsys.readouterr().err)
        assert 1 == message.count("\n")

    def test_another_system_is_refused(self, monkeypatch, capsys):
        """The message names `ready`, for the owner of a laptop."""
        monkeypatch.setattr("sys.platform", "darwin")
        assert 2 == main(["up"])
        assert "python -m lab ready" in capsys.readouterr().err

    def test_env_is_for_a_shell(self, capsys):
        """Standard output has the command alone."""
        assert 0 == main(["env"])
        assert f"export DOCKER_HOST={Lab().docker_host}\n" == capsys.readouterr().out

    def test_a_second_command_waits(self, tmp_path):
        """Two commands never work on one lab at a time; the second stops with a reason."""
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
        """The message has the command and its error."""
        with pytest.raises(LabError, match=r"`ls /nowhere-at-all` failed: .*No such file"):
            run(["ls", "/nowhere-at-all"])

    def test_a_command_has_a_deadline(self):
        """The message names the command that hangs."""
        with pytest.raises(LabError, match="`sleep 5` did not end within 0 s"):
            run(["sleep", "5"], seconds=0.1)

    def test_a_wait_has_a_deadline(self):
        """The message names what did not happen."""
        with pytest.raises(LabError, match="the flood did not happen within 0 s"):
            wait_for("the flood", lambda: False, seconds=0.1)


@pytest.fixture
def groups(monkeypatch, tmp_path):
    """Return a folder that stands for the control groups, of version 2."""
    (tmp_path / "cgroup.procs").touch()
    monkeypatch.setattr(processes, "CGROUPS", tmp_path)
    return tmp_path


@pytest.fixture
def started(groups, tmp_path):
    """Return a program that the lab has started."""
    daemon = processes.start("sleep", ["sleep", "60"], tmp_path / "log", "/lab/node/engine")
    file = groups / "lab" / "node" / "engine" / "cgroup.procs"
    wait_for("the program joining its group", file.exists, seconds=10)
    wait_for("its process id", file.read_text, seconds=10)
    yield daemon
    daemon.process.kill()
    daemon.process.wait()


class TestProcesses:
    def test_a_program_is_in_its_group(self, started):
        """It joins before it starts, under its own process id."""
        assert {started.process.pid} == processes.running("/lab/node/engine")

    def test_a_group_has_the_groups_below_it(self, started):
        """A node has its engine, its registry and its containers."""
        assert {started.process.pid} == processes.running("/lab")

    @pytest.mark.usefixtures("started")
    @pytest.mark.parametrize("cgroup", ["/lab/node/registry", "/lab/nod", "/lab-second"])
    def test_another_group_is_left_alone(self, cgroup):
        """Other nodes and other labs do not have the program."""
        assert set() == processes.running(cgroup)

    def test_version_1_has_a_group_for_each_controller(self, groups):
        """A process counts in whichever it is."""
        (groups / "cgroup.procs").unlink()
        for controller, pid in (("devices", 1), ("pids", 2)):
            (groups / controller / "lab").mkdir(parents=True)
            (groups / controller / "lab" / "cgroup.procs").write_text(f"{pid}\n")
        assert {1, 2} == processes.running("/lab")
        assert groups / "devices" / "lab" == processes._group("/lab")

    def test_the_end_of_a_group_ends_its_programs(self, started, monkeypatch):
        """It waits until the group is empty."""
        alive = {started.process.pid}
        monkeypatch.setattr(
            processes, "running", lambda _: alive if started.process.poll() is None else set()
        )
        processes.end("/lab")
        assert -signal.SIGKILL == started.process.returncode

    def test_a_program_that_ends_at_once_shows_its_log(self, groups, tmp_path):
        """The last lines are part of the message."""
        command = ["sh", "-c", "echo no such port; exit 1"]
        daemon = processes.start("the server", command, tmp_path / "log", "/lab")
        with pytest.raises(LabError, match=r"the server ended at once;.*\nno such port"):
            daemon.wait(lambda: False, seconds=10)


@pytest.mark.parametrize(
    ("states", "unready"),
    [({"lab-master": "engine down"}, "lab-master"), ({"lab-data-2": "active, lacks x"}, "data-2")],
)
def test_a_node_that_is_not_ready_is_named(states, unready, monkeypatch, capsys):
    """Every node is printed, and the message names the fix."""
    monkeypatch.setattr(cluster, "current_images", lambda *_: [])
    monkeypatch.setattr(
        cluster, "_state", lambda node, _: states.get(node.hostname, cluster._READY)
    )
    with pytest.raises(LabError, match=rf"not ready: .*{unready}\. Run `python -m lab up`"):
        cluster.check(Lab())
    assert 4 == capsys.readouterr().out.count("\n")


class TestPackages:
    def test_nothing_missing_calls_nothing(self, monkeypatch):
        """A machine that has every command is not touched."""
        monkeypatch.setattr(debian, "which", lambda command: f"/usr/bin/{command}")
        monkeypatch.setattr(debian, "_install", pytest.fail)
        debian.ensure_packages()

    def test_without_apt_the_missing_are_named(self, monkeypatch):
        """The message names the packages for another distribution."""
        monkeypatch.setattr(debian, "which", {}.get)
        with pytest.raises(LabError, match=r"docker\.io.* no apt-get\. Install them"):
            debian.ensure_packages()

    def test_services_stay_still_while_installing(self, monkeypatch, tmp_path):
        """The policy that forbids starts exists only during the installation."""
        policy, seen = tmp_path / "policy-rc.d", []
        monkeypatch.setattr(debian, "_POLICY", policy)
        monkeypatch.setattr(debian, "which", {"apt-get": "/usr/bin/apt-get"}.get)
        monkeypatch.setattr(debian, "_install", lambda _: seen.append(policy.read_text()))
        debian.ensure_packages(["debootstrap"])
        assert [debian._DENY] == seen
        assert not policy.exists()

    def test_a_foreign_policy_stays(self, monkeypatch, tmp_path):
        """Only the lab's own policy is removed."""
        policy = tmp_path / "policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 0\n")
        monkeypatch.setattr(debian, "_POLICY", policy)
        debian.let_services_start()
        assert policy.exists()


class FakeEngine:
    """An engine that knows its Swarm membership only."""

    def __init__(self, **membership):
        self.membership = membership

    def info(self):
        return {"Swarm": self.membership}


class TestSingle:
    def test_a_distant_engine_is_refused(self, monkeypatch):
        """An engine on another machine is not set up from here."""
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
        """A Swarm that others use is not changed."""
        engine = FakeEngine(LocalNodeState="active", **membership)
        with pytest.raises(LabError, match=reason):
            single._ensure_swarm(engine, "unix:///x")

    def test_a_locked_swarm_is_refused(self):
        """The message names a state that a person must fix."""
        with pytest.raises(LabError, match="is locked"):
            single._ensure_swarm(FakeEngine(LocalNodeState="locked"), "unix:///x")


def test_a_socket_without_engine_does_not_answer(tmp_path):
    """A missing socket means no engine."""
    assert not answers(f"unix://{tmp_path}/docker.sock")


def test_a_node_that_has_not_reported_has_no_name():
    """A node's first moments in the Swarm are without a description."""
    assert "" == swarm._hostname({"Description": {}})


class TestUsualSocket:
    @pytest.fixture(autouse=True)
    def usual(self, monkeypatch, tmp_path):
        """Return the usual place of an engine's socket."""
        monkeypatch.setattr(single, "_USUAL", tmp_path / "docker.sock")
        return tmp_path / "docker.sock"

    def test_it_leads_to_the_lab(self, usual, tmp_path):
        """Docker clients reach the lab without DOCKER_HOST, until the lab is gone."""
        single.link_socket(f"unix://{tmp_path}/lab/docker.sock")
        assert tmp_path / "lab" / "docker.sock" == usual.readlink()
        single.unlink_socket(tmp_path / "lab")
        assert not usual.is_symlink()

    def test_another_link_stays(self, usual, tmp_path):
        """The end of the lab removes the lab's link only."""
        usual.symlink_to(tmp_path / "other" / "docker.sock")
        single.unlink_socket(tmp_path / "lab")
        assert usual.is_symlink()

    def test_another_socket_is_not_replaced(self, usual, tmp_path):
        """The message names the command that sets the address in the dev stack."""
        usual.touch()
        with pytest.raises(LabError, match="pulumi config set --stack dev dockerHost unix:///x"):
            single.link_socket("unix:///x")
