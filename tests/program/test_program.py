"""The whole program: outputs, secrets, when the probe runs again, and the documentation."""

import base64
import json
import shutil

import pytest

from components import probe
from config.settings import declared_settings
from tests.conftest import ROOT

TOKEN = "t" * 48
PROBE = "dask-health-run"
ATTEMPT = "random:index/randomId:RandomId"


def request_of(program):
    """Return the probe's request."""
    return json.loads(program.command(PROBE).inputs["stdin"])


def keepers_of(program):
    """Return the keepers of the probe's attempt; a change of them runs the probe again."""
    (attempt,) = program.of_type(ATTEMPT)
    return attempt.inputs["keepers"]


def test_the_outputs_are_the_documented_outputs(run):
    """Users rely on the outputs' names and types."""
    outputs = run().outputs
    assert "tls://scheduler:8786" == outputs["scheduler_address"]
    assert "http://dask_scheduler:8787/status" == outputs["dashboard_url"]
    assert "http://dask_notebook:8888" == outputs["notebook_url"]
    assert 4 == outputs["health"]["workers"]
    assert TOKEN == outputs["notebook_token"]


def test_the_token_is_always_a_secret(run):
    """It is in a secret output and a secret's data, and nowhere else."""
    program = run()
    assert {"notebook_token", "client_config"} == program.secret_outputs
    secrets = program.of_type("docker:index/secret:Secret")
    assert all({"data"} == secret.secret for secret in secrets)
    assert ["dask-notebook-token"] == [
        secret.name
        for secret in secrets
        if TOKEN in base64.b64decode(secret.inputs["data"]).decode()
    ]
    assert TOKEN not in json.dumps([resource.inputs for resource in program.resources])


@pytest.mark.parametrize("password", ["correct horse"])
def test_a_password_is_never_plain_in_an_input(run, password):
    """A password from the config reaches Swarm as a secret's data only."""
    program = run(notebookPassword=password)
    assert password not in json.dumps([resource.inputs for resource in program.resources])


def test_every_resource_belongs_to_a_component(run):
    """Only the provider has no component as parent."""
    program = run()
    types = [resource.type for resource in program.resources]
    assert 1 == types.count("dask:swarm:DaskCluster")
    assert 1 == types.count("dask:swarm:HealthProbe")
    assert 3 == types.count("docker:index/service:Service")
    assert len(types) == len({(resource.type, resource.name) for resource in program.resources})


@pytest.mark.parametrize(
    ("host", "options"),
    [
        ("unix:///var/run/docker.sock", None),
        ("tcp://manager:2376", None),
        ("ssh://deploy@manager", ["-Fswarm/ssh_config"]),
    ],
)
def test_the_provider_uses_the_projects_ssh_config(run, host, options):
    """The same file as the program, without a path of this machine."""
    (provider,) = run(dockerHost=host).of_type("pulumi:providers:docker")
    assert host == provider.inputs["host"]
    assert options == json.loads(provider.inputs.get("sshOpts", "null"))


def test_an_adopted_network_is_not_replaced(run):
    """Whether containers may attach cannot be changed in place; a replacement is an outage."""
    request = run().requests["dask-network-overlay"]
    assert {"attachable", "labels"} <= set(request.ignoreChanges)


class TestProbe:
    def test_expects_the_size_of_the_settings(self, run):
        """Workers, threads and memory are the sums over all workers."""
        request = request_of(run(workers="6", workerThreads="2", workerMemory="512MiB"))
        expected = {"workers": 6, "threads": 12, "memory_bytes": 3 * 2**30, "workers_per_node": 2}
        assert expected == request["expected"]
        assert ["prefect", "prefect-dask", "s3fs"] == request["packages"]

    def test_waits_for_the_spec_hashes_of_the_services(self, run):
        """It starts beside the services and must not prove tasks of the last deployment."""
        program = run()
        for name, spec_hash in request_of(program)["services"].items():
            assert program.labels(name)["dask.swarm/revision"] == spec_hash

    def test_does_not_run_again_without_a_change(self, run):
        """Two runs with the same config have the same keepers."""
        assert keepers_of(run()) == keepers_of(run(again=True))

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
        """A change of any service is a new attempt."""
        assert keepers_of(run()) != keepers_of(run(**change))

    @pytest.mark.parametrize(
        "part", ["health/launch.py", "health/probe/proof.py", "swarm/snapshot.py"]
    )
    def test_runs_again_when_its_own_source_changes(self, run, monkeypatch, tmp_path, part):
        """The launcher, and the part that runs inside the cluster."""
        for folder in probe.PROGRAM:
            shutil.copytree(probe.PROJECT / folder, tmp_path / folder)
        monkeypatch.setattr(probe, "PROJECT", tmp_path)
        before = keepers_of(run())
        with (tmp_path / part).open("a") as source:
            source.write("# changed\n")
        assert before != keepers_of(run())

    def test_runs_again_after_drift(self, run):
        """Drift changes no input of a service, only what Swarm reports."""
        assert "dask_worker 17" == keepers_of(run(drifted="dask_worker 17"))["touched"]
        assert "" == keepers_of(run())["touched"]

    def test_keeps_a_record_of_its_proof_on_the_swarm(self, run):
        """With it the next run detects drift."""
        program = run()
        (record,) = [
            config
            for config in program.of_type("docker:index/serviceConfig:ServiceConfig")
            if config.name == "dask-health-proven"
        ]
        proof = json.loads(base64.b64decode(record.inputs["data"]))
        assert {"dask_worker": "1"} == proof["imprints"]
        assert "imprints" not in program.outputs["health"]

    def test_has_no_path_clock_or_environment_in_its_inputs(self, run, monkeypatch):
        """Another checkout and another user change nothing."""
        before = run()
        monkeypatch.setenv("HOME", "/nowhere")
        monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:1")
        assert before.command(PROBE) == run().command(PROBE)
        assert str(ROOT) not in json.dumps([resource.inputs for resource in before.resources])


class TestShutdown:
    def test_runs_only_when_it_is_deleted(self, run):
        """Its only command stops the tasks, the scheduler first."""
        inputs = run().command("dask-shutdown-run").inputs
        assert {"delete"} == {"create", "update", "delete", "triggers"} & inputs.keys()
        services = ["dask_scheduler", "dask_worker", "dask_notebook"]
        assert services == json.loads(inputs["stdin"])["services"]

    def test_stays_the_same_when_the_cluster_changes(self, run):
        """New workers or images stop in the same way."""
        changed = run(workers="3", image="localhost:5001/dask-swarm:2")
        assert run().command("dask-shutdown-run") == changed.command("dask-shutdown-run")


class TestDocumentation:
    def test_pulumi_yaml_declares_exactly_the_settings(self, project):
        """All settings have a type, a description and a default; no other key exists."""
        keys = [setting.key for setting in declared_settings()]
        assert keys == list(project["config"])
        for declared in project["config"].values():
            assert {"type", "default", "description"} <= set(declared)
