"""The rehearsal makes what the program declares, and deletes what it no longer declares."""

import json
import os
import stat
import subprocess
import sys
import textwrap

import pulumi
import pytest
from docker.errors import NotFound

from config.problems import ConfigError
from lab import config
from lab.layout import chosen_lab
from lab.rehearsal import certificates, resources
from lab.rehearsal.__main__ import Rehearsal
from lab.rehearsal.program import Resource
from lab.rehearsal.services import service_arguments
from lab.rehearsal.state import State
from tests.conftest import ROOT

SERVICE = "docker:index/service:Service"
CONFIG = "docker:index/serviceConfig:ServiceConfig"
CERTIFICATE = "tls:index/selfSignedCert:SelfSignedCert"
NETWORK = "docker:index/network:Network"
HOST = "unix:///x"

PROJECT = {
    "name": "p",
    "config": {
        "count": {"type": "integer", "default": 4},
        "text": {"type": "string", "default": "a b"},
        "flag": {"type": "boolean", "default": False},
        "list": {"type": "array", "default": ["x", "y"]},
        "needed": {"type": "string"},
    },
}
WEB = {
    "name": "web",
    "labels": [{"label": "a", "value": "1"}],
    "mode": {"replicated": {"replicas": 2}},
    "taskSpec": {
        "containerSpec": {
            "image": "i@sha256:0",
            "args": ["-x"],
            "env": {"A": "1"},
            "init": True,
            "capDrops": ["ALL"],
            "stopGracePeriod": "1m",
            "healthcheck": {"tests": ["CMD", "true"], "interval": "1s", "retries": 3},
            "secrets": [
                {
                    "secretId": "s",
                    "secretName": "n",
                    "fileName": "f",
                    "fileUid": "1000",
                    "fileGid": "0",
                    "fileMode": 0o440,
                }
            ],
            "configs": [],
        },
        "resources": {
            "limits": {"nanoCpus": 5, "memoryBytes": 6},
            "reservation": {"nanoCpus": 1, "memoryBytes": 2},
        },
        "restartPolicy": {"condition": "any", "delay": "1s"},
        "placement": {
            "constraints": ["node.role==manager"],
            "platforms": [{"os": "linux", "architecture": "amd64"}],
        },
        "networksAdvanceds": [{"id": "net", "aliases": ["w"]}],
        "logDriver": {"name": "json-file", "options": {"max-size": "1m"}},
    },
    "updateConfig": {"order": "start-first", "maxFailureRatio": "0.0"},
    "rollbackConfig": {"order": "stop-first"},
    "endpointSpec": {"ports": [{"targetPort": 80, "publishMode": "host"}]},
}


def test_a_service_has_the_names_and_units_of_the_api():
    """As the provider sends it, so that `docker service inspect` shows the same."""
    expected = {
        "name": "web",
        "labels": {"a": "1"},
        "mode": {"Replicated": {"Replicas": 2}},
        "task_template": {
            "ContainerSpec": {
                "Image": "i@sha256:0",
                "Args": ["-x"],
                "Env": ["A=1"],
                "Init": True,
                "CapabilityDrop": ["ALL"],
                "StopGracePeriod": 60 * 10**9,
                "Healthcheck": {"Test": ["CMD", "true"], "Interval": 10**9, "Retries": 3},
                "DNSConfig": {},
                "Secrets": [
                    {
                        "SecretID": "s",
                        "SecretName": "n",
                        "File": {"Name": "f", "UID": "1000", "GID": "0", "Mode": 0o440},
                    }
                ],
                "Configs": [],
            },
            "Resources": {
                "Limits": {"NanoCPUs": 5, "MemoryBytes": 6},
                "Reservations": {"NanoCPUs": 1, "MemoryBytes": 2},
            },
            "RestartPolicy": {"Condition": "any", "Delay": 10**9},
            "Placement": {
                "Constraints": ["node.role==manager"],
                "Platforms": [{"OS": "linux", "Architecture": "amd64"}],
            },
            "Networks": [{"Target": "net", "Aliases": ["w"]}],
            "LogDriver": {"Name": "json-file", "Options": {"max-size": "1m"}},
        },
        "update_config": {"Order": "start-first", "MaxFailureRatio": 0.0},
        "rollback_config": {"Order": "stop-first"},
        "endpoint_spec": {"Ports": [{"TargetPort": 80, "PublishMode": "host"}]},
    }
    assert expected == service_arguments(WEB)
    assert {"Global": {}} == service_arguments(WEB | {"mode": {"global": True}})["mode"]


class FakeSwarm:
    """The Docker client's methods that the rehearsal calls, and the order of its changes."""

    def __init__(self):
        self.things, self.calls = {}, []

    def __getattr__(self, method):
        verb, _, noun = method.partition("_")
        return lambda *args, **kwargs: getattr(self, verb)(noun, *args, **kwargs)

    def create(self, noun, *, name, **given):
        self.calls.append(f"create {noun}")
        identity = f"{noun}-{len(self.calls)}"
        self.things[identity] = {"Name": name, **given}
        return {"ID": identity}

    def inspect(self, noun, identity):
        if identity not in self.things:
            raise NotFound(identity)
        addresses = {"Config": [{"Subnet": "10.0.1.0/24"}]}
        return {"Spec": self.things[identity], "Version": {"Index": 7}, "IPAM": addresses}

    def update(self, noun, identity, version, *, name, **given):
        assert 7 == version
        self.calls.append(f"update {noun}")
        self.things[identity] = {"Name": name, **given}

    def remove(self, noun, identity):
        self.inspect(noun, identity)
        self.calls.append(f"remove {noun}")
        del self.things[identity]


class TestSwarm:
    """Three resources on a fake Swarm."""

    @pytest.fixture
    def swarm(self, monkeypatch):
        """Return the Swarm at every address."""
        swarm = FakeSwarm()
        monkeypatch.setattr(resources, "_engine", lambda _: swarm)
        return swarm

    @pytest.fixture
    def up(self, tmp_path):
        """Return a function that declares a network, a config and a service."""

        def make(text="aGk=", image="i", *, service=True, preview=False):
            rehearsal = Rehearsal(State(tmp_path / "dev.json", preview=preview))
            rehearsal.make(self.declared(NETWORK, name="net"))
            config = rehearsal.make(self.declared(CONFIG, data=text))
            if service:
                task = WEB["taskSpec"]
                container = task["containerSpec"] | {"image": image, "configs": []}
                container["env"] = {"CONFIG": config.id}
                task = task | {"containerSpec": container}
                rehearsal.make(self.declared(SERVICE, **WEB | {"taskSpec": task}))
            rehearsal.delete_undeclared()
            return dict(rehearsal.done)

        return make

    def declared(self, token, **inputs):
        return Resource(type=token, name="x", host=HOST, inputs=inputs)

    def test_a_second_up_changes_nothing(self, up, swarm):
        """Existing resources do not change."""
        assert {"create": 3} == up()
        assert {"same": 3} == up()
        assert ["create network", "create config", "create service"] == swarm.calls

    def test_a_service_is_updated_in_place(self, up, swarm):
        """With its current version."""
        up()
        assert {"same": 2, "update": 1} == up(image="j")
        assert "update service" == swarm.calls[-1]

    def test_a_changed_config_is_a_new_config(self, up, swarm):
        """The old config is deleted when the service no longer uses it."""
        up()
        assert {"same": 1, "create": 1, "update": 1, "delete": 1} == up("YnllCg==")
        assert ["create config", "update service", "remove config"] == swarm.calls[-3:]

    def test_undeclared_resources_are_deleted(self, up, swarm, tmp_path):
        """Services first, because they use the rest; a destroy leaves nothing."""
        up()
        assert {"same": 2, "delete": 1} == up(service=False)
        up()
        rehearsal = Rehearsal(State(tmp_path / "dev.json"))
        rehearsal.delete_undeclared()
        assert "remove service" == swarm.calls[-3]
        assert {} == swarm.things
        assert not list(tmp_path.iterdir())

    def test_changes_by_hand_are_undone(self, up, swarm):
        """A changed service is updated, a missing network is created."""
        up()
        for identity, thing in list(swarm.things.items()):
            if identity.startswith("network"):
                del swarm.things[identity]
            thing["by hand"] = True
        assert {"create": 1, "same": 1, "update": 1} == up()
        assert {"same": 3} == up()

    def test_an_up_continues_a_failed_up(self, up, swarm, monkeypatch):
        """The old config is deleted by the next up that succeeds."""
        up()
        monkeypatch.setattr(swarm, "update", lambda *_, **__: 1 / 0, raising=False)
        with pytest.raises(pulumi.RunError, match="Service::x: division by zero"):
            up("YnllCg==")
        monkeypatch.undo()
        monkeypatch.setattr(resources, "_engine", lambda _: swarm)
        assert {"same": 2, "update": 1, "delete": 1} == up("YnllCg==")

    def test_a_preview_only_compares_with_the_state(self, up, swarm):
        """It lists the changes of an up, and leaves the Swarm and the state unchanged."""
        assert {"create": 3} == up(preview=True)
        up()
        before = list(swarm.calls)
        assert {"create": 1, "update": 1, "same": 1, "delete": 1} == up("YnllCg==", preview=True)
        assert before == swarm.calls
        assert {"same": 3} == up()


@pytest.mark.parametrize(("hours", "again"), [(23, {"same": 1}), (25, {"create": 1, "delete": 1})])
def test_a_certificate_is_renewed_before_its_end(tmp_path, hours, again):
    """By an `up` in the last hours of its 24; it has the same inputs then."""
    key = certificates.make("PrivateKey", {})["privateKeyPem"]
    given = {"privateKeyPem": key, "subject": {"commonName": "x"}, "allowedUses": []}
    validity = {"validityPeriodHours": 24, "earlyRenewalHours": hours}
    declared = Resource(type=CERTIFICATE, name="x", inputs=given | validity)
    for expected in ({"create": 1}, again):
        rehearsal = Rehearsal(State(tmp_path / "dev.json"))
        rehearsal.make(declared)
        rehearsal.delete_undeclared()
        assert expected == rehearsal.done


def test_a_certificate_stays_if_only_its_early_renewal_changes(tmp_path):
    """As the provider does: what is due by the earlier value is not renewed."""
    key = certificates.make("PrivateKey", {})["privateKeyPem"]
    given = {"privateKeyPem": key, "subject": {"commonName": "x"}, "allowedUses": []}
    validity, made, done = {"validityPeriodHours": 24}, [], []
    for hours in (25, 0, 0, 25):
        rehearsal = Rehearsal(State(tmp_path / "dev.json"))
        inputs = given | validity | {"earlyRenewalHours": hours}
        made.append(rehearsal.make(Resource(type=CERTIFICATE, name="x", inputs=inputs)))
        done += rehearsal.done
    assert ["create", "update", "same", "create"] == done
    first, *same, renewed = (resource.outputs["certPem"] for resource in made)
    assert [first, first] == same
    assert first != renewed


def test_the_state_is_private(tmp_path):
    """The resources are read again; no other user can read them."""
    path = tmp_path / "private" / "dev.json"
    kept = Resource(type=CONFIG, name="x", inputs={"data": "aHVzaA=="}, id="1")
    State(path).put("a", kept)
    assert [("a", "1")] == [(key, resource.id) for key, resource in State(path).resources.items()]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


class TestConfig:
    def test_defaults_are_encoded_as_the_engine_does(self):
        """Text stays text, everything else becomes JSON."""
        expected = {"p:count": "4", "p:text": "a b", "p:flag": "false", "p:list": '["x","y"]'}
        assert expected == config.load_config(PROJECT, {})

    def test_a_value_of_the_stack_replaces_the_default(self):
        """Whether its key names the project or not."""
        values = config.load_config(PROJECT, {"config": {"p:count": 6, "text": "c"}})
        assert values["p:count"] == "6"
        assert values["p:text"] == "c"

    @pytest.mark.parametrize("value", [{"secure": "v1:x"}, {"a": [{"secure": "v1:x"}]}])
    def test_an_encrypted_value_is_refused(self, value):
        """Only the engine has the key for a secret in the value."""
        with pytest.raises(pulumi.RunError, match=r"p:text is encrypted.*only the Pulumi engine"):
            config.load_config(PROJECT, {"config": {"p:text": value}})

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ('config:\n  p:count: "3\n', "line 3: found unexpected end of stream"),
            ("config:\n\tp:count: 3\n", "line 2: found character"),
            ("config: 3\n", "it has no keys"),
            ("- p:count\n", "it has no keys"),
        ],
    )
    def test_an_invalid_config_file_is_an_error(self, text, why, tmp_path):
        """The error names the file and the line."""
        (tmp_path / "Pulumi.dev.yaml").write_text(text)
        with pytest.raises(ConfigError, match=f"- Pulumi.dev.yaml: cannot be read, {why}"):
            config.stack_file(tmp_path / "Pulumi.dev.yaml")

    def test_only_a_named_config_file_must_exist(self, tmp_path):
        """A stack of defaults has no file."""
        assert {"config": {}} == config.stack_file(tmp_path / "Pulumi.dev.yaml")
        with pytest.raises(FileNotFoundError):
            config.stack_file(tmp_path / "other.yaml", named=True)

    def test_an_offline_preview_replaces_encrypted_values(self):
        """It needs no passphrase, and still treats the value as a secret."""
        stack = {"config": {"p:text": {"secure": "v1:x"}, "p:count": 6}}
        assert "not-decrypted" == config.load_config(PROJECT, stack, offline=True)["p:text"]
        assert ["p:text"] == config.secret_keys(stack)


class TestProvider:
    def provider(self, host):
        return Resource(type=resources.PROVIDER, name="swarm", inputs={"host": host})

    @pytest.mark.parametrize(
        "host", ["ssh://manager", "ssh://root@127.0.0.1", "tcp://10.0.0.1:2375", ""]
    )
    def test_another_machine_is_refused(self, host):
        """The rehearsal deploys to this machine only."""
        with pytest.raises(pulumi.RunError, match="this machine only"):
            resources.create(self.provider(host))

    def test_the_lab_is_allowed_through_ssh(self):
        """It is on this machine."""
        host = f"ssh://root@{chosen_lab().master.address}:2222"
        assert host == resources.create(self.provider(host)).id


class TestRun:
    """The command line, with a program that needs no Swarm."""

    PROGRAM = """
        import pulumi, pulumi_command, pulumi_random
        config = pulumi.Config()
        token = pulumi_random.RandomPassword("token", length=20).result
        if not config.get("script"):
            raise pulumi.RunError("script: is missing")
        command = pulumi_command.local.Command(
            "run",
            create=config.get("script"),
            delete="cat >deleted; echo $A >>deleted",
            stdin=token,
            triggers=[config.get("trigger")],
            environment={"A": config.get("script")},
        )
        pulumi.log.info("a message")
        pulumi.export("length", token.apply(len))
        pulumi.export("printed", command.stdout)
    """

    @pytest.fixture
    def run(self, tmp_path):
        """Return a function that runs the rehearsal on the program above."""
        (tmp_path / "Pulumi.yaml").write_text("{name: p, runtime: python}")
        (tmp_path / "__main__.py").write_text(textwrap.dedent(self.PROGRAM))

        def call(*arguments, script="", trigger="1"):
            values = {"p:script": script, "p:trigger": trigger}
            (tmp_path / "Pulumi.dev.yaml").write_text(json.dumps({"config": values}))
            return subprocess.run(
                [sys.executable, "-m", "lab.rehearsal", *arguments],
                cwd=tmp_path,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )

        return call

    def test_up_output_and_destroy(self, run, tmp_path):
        """A second up changes nothing; outputs hide their secrets; destroy leaves no state."""
        first = run("up", script="wc -c")
        assert "2 create" in first.stdout, first.stderr
        assert "a message" in first.stderr
        assert "2 same" in run("up", script="wc -c").stdout
        assert "run update" in run("preview", script="true").stdout
        shown = json.loads(run("output").stdout)
        assert {"length": "[secret]", "printed": "[secret]"} == shown
        assert run("output", "printed", "--show-secrets").stdout == "20\n"
        assert "2 delete" in run("destroy").stdout
        assert not list(tmp_path.glob(".pulumi/rehearsal/*"))

    def test_a_changed_command_runs_again(self, run, tmp_path):
        """If its triggers change, the old one is deleted, with its own script and input."""
        run("up", script="true")
        assert "1 same, 1 update," in run("up", script="true again").stdout
        assert not (tmp_path / "deleted").exists()
        assert "1 same, 1 create, 1 delete" in run("up", script="true", trigger="2").stdout
        assert (tmp_path / "deleted").read_text().endswith("true again\n")

    def test_a_command_that_fails_is_not_in_the_state(self, run):
        """The error has the script's output, and the next run tries again."""
        failed = run("up", script="echo why >&2; exit 7")
        assert failed.returncode == 1
        assert "run: 'echo why >&2; exit 7' failed with exit status 7" in failed.stderr
        assert "why\n" in failed.stderr
        assert "1 same, 1 create" in run("up", script="true").stdout

    def test_an_unknown_output_is_an_error(self, run):
        """Nothing is printed on standard output."""
        done = run("output", "printed")
        assert (1, "") == (done.returncode, done.stdout)

    def test_an_error_of_the_program_has_no_traceback(self, run):
        """Only its message is printed."""
        failed = run("up")
        assert failed.returncode == 1
        assert failed.stderr == "error: script: is missing\n"

    def test_an_interrupted_up_ends_its_scripts(self, run, tmp_path):
        """A script can clean up, and the next run continues from the state."""
        script = "trap 'touch cleaned; exit 1' TERM; kill -INT $PPID; while :; do sleep 0.1; done"
        assert run("up", script=script).returncode == 130
        assert (tmp_path / "cleaned").exists()
        assert "1 same, 1 create" in run("up", script="true").stdout
