"""The whole program: its outputs, its secrets, when the probe runs again, what is documented."""

import base64
import json
import shutil

import pytest

from components import probe
from config.settings import declared_settings, key_of
from tests.conftest import ROOT

TOKEN = "t" * 48
PROBE = "dask-health-run"
ATTEMPT = "random:index/randomId:RandomId"


def request_of(program):
    """Return what the probe is asked to prove."""
    return json.loads(program.command(PROBE).inputs["stdin"])


def keepers_of(program):
    """Return what decides whether the probe runs again."""
    (attempt,) = program.of_type(ATTEMPT)
    return attempt.inputs["keepers"]


def test_the_outputs_are_the_promised_ones(run):
    """Others rely on the names and forms of the stack's outputs."""
    outputs = run().outputs
    assert "tcp://scheduler:8786" == outputs["scheduler_address"]
    assert "http://dask_scheduler:8787/status" == outputs["dashboard_url"]
    assert "http://dask_notebook:8888" == outputs["notebook_url"]
    assert 4 == outputs["health"]["workers"]
    assert TOKEN == outputs["notebook_token"]


def test_the_token_is_a_secret_wherever_it_goes(run):
    """The token stands in a secret output and a secret's data, and in nothing else."""
    program = run()
    assert {"notebook_token"} == program.secret_outputs
    (secret,) = program.of_type("docker:index/secret:Secret")
    assert {"data"} == secret.secret
    assert TOKEN not in json.dumps([each.inputs for each in program.resources])


@pytest.mark.parametrize("password", ["correct horse"])
def test_a_password_is_never_plain_in_an_input(run, password):
    """A password from the config reaches the Swarm as a secret's data only."""
    program = run(notebookPassword=password)
    assert password not in json.dumps([each.inputs for each in program.resources])


def test_every_resource_belongs_to_a_component(run):
    """The only resources beside components and their children are providers."""
    program = run()
    types = [each.type for each in program.resources]
    assert 1 == types.count("dask:swarm:DaskCluster")
    assert 1 == types.count("dask:swarm:HealthProbe")
    assert 3 == types.count("docker:index/service:Service")
    assert len(types) == len({(each.type, each.name) for each in program.resources})


@pytest.mark.parametrize(
    ("host", "options"),
    [
        ("unix:///var/run/docker.sock", None),
        ("tcp://manager:2376", None),
        ("ssh://deploy@manager", ["-Fswarm/ssh_config"]),
    ],
)
def test_a_manager_behind_ssh_is_reached_by_the_projects_own_rules(run, host, options):
    """The provider gets the file that the program goes by, and no path of this machine."""
    (provider,) = run(dockerHost=host).of_type("pulumi:providers:docker")
    assert host == provider.inputs["host"]
    assert options == json.loads(provider.inputs.get("sshOpts", "null"))


class TestProbe:
    def test_is_asked_to_prove_what_the_settings_promise(self, run):
        """Workers, threads and memory are the sums over all workers."""
        request = request_of(run(workers="6", workerThreads="2", workerMemory="512MiB"))
        expected = {"workers": 6, "threads": 12, "memory_bytes": 3 * 2**30, "workers_per_node": 2}
        assert expected == request["expected"]
        assert ["prefect", "prefect-dask", "s3fs"] == request["packages"]

    def test_waits_for_the_revisions_that_the_services_carry(self, run):
        """Started beside the services, it must not prove the tasks of the last deployment."""
        program = run()
        for name, revision in request_of(program)["services"].items():
            (label,) = program.service(name)["labels"]
            assert label["value"] == revision

    def test_does_not_run_again_without_a_change(self, run):
        """Two runs with the same config ask for the same attempt."""
        assert keepers_of(run()) == keepers_of(run())

    @pytest.mark.parametrize(
        "change",
        [
            {"workers": "3"},
            {"workerMemory": "2GiB"},
            {"workerCpus": "0.75"},
            {"image": "localhost:5001/dask-swarm:2"},
            {"notebookImage": "localhost:5001/dask-swarm-notebook:2"},
            {"notebookMemory": "3GiB"},
            {"schedulerCpus": "2"},
            {"extraPipPackages": '["s3fs"]'},
            {"caddyMode": "none"},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_runs_again_when_what_it_depends_on_changes(self, run, change):
        """Whatever changes a service makes a new attempt."""
        assert keepers_of(run()) != keepers_of(run(**change))

    @pytest.mark.parametrize(
        "part", ["health/launch.py", "health/probe/proof.py", "swarm/snapshot.py"]
    )
    def test_runs_again_when_its_own_source_changes(self, run, monkeypatch, tmp_path, part):
        """Also when it is the part of it that travels into the cluster."""
        for room in probe.PROGRAM:
            shutil.copytree(probe.PROJECT / room, tmp_path / room)
        monkeypatch.setattr(probe, "PROJECT", tmp_path)
        before = keepers_of(run())
        with (tmp_path / part).open("a") as source:
            source.write("# changed\n")
        assert before != keepers_of(run())

    def test_runs_again_when_a_service_was_touched_by_hand(self, run):
        """No input of a service differs then: what the Swarm said of it does."""
        assert "dask_worker 17" == keepers_of(run(touched="dask_worker 17"))["touched"]
        assert "" == keepers_of(run())["touched"]

    def test_leaves_a_note_of_what_it_proved_on_the_swarm(self, run):
        """By it the next run knows whether somebody has touched a service."""
        program = run()
        (note,) = [
            each
            for each in program.of_type("docker:index/serviceConfig:ServiceConfig")
            if each.name == "dask-health-proven"
        ]
        told = json.loads(base64.b64decode(note.inputs["data"]))
        assert {"dask_worker": "1"} == told["imprints"]
        assert "imprints" not in program.outputs["health"]

    def test_has_no_path_clock_or_environment_in_its_inputs(self, run, monkeypatch):
        """From another checkout or by another user nothing changes."""
        before = run()
        monkeypatch.setenv("HOME", "/nowhere")
        monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:1")
        assert before.command(PROBE) == run().command(PROBE)
        assert str(ROOT) not in json.dumps([each.inputs for each in before.resources])


class TestShutdown:
    def test_does_nothing_until_it_is_deleted(self, run):
        """Its only script is the one that ends the tasks, the scheduler first."""
        inputs = run().command("dask-shutdown-run").inputs
        assert {"delete"} == {"create", "update", "delete", "triggers"} & inputs.keys()
        services = ["dask_scheduler", "dask_worker", "dask_notebook"]
        assert services == json.loads(inputs["stdin"])["services"]

    def test_is_not_touched_by_a_change_of_the_cluster(self, run):
        """Other workers or images are ended in the same way."""
        changed = run(workers="3", image="localhost:5001/dask-swarm:2")
        assert run().command("dask-shutdown-run") == changed.command("dask-shutdown-run")


class TestDocumentation:
    def test_pulumi_yaml_declares_exactly_the_settings(self, project):
        """Each setting is typed, described and defaulted, and there is no other key."""
        keys = [key_of(name) for name in declared_settings()]
        assert keys == list(project["config"])
        for declared in project["config"].values():
            assert {"type", "default", "description"} <= set(declared)
