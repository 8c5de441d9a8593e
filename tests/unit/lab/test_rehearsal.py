"""The rehearsal translates and plans like the provider and the engine, and refuses the rest."""

import json
import os
import stat
import subprocess
import sys
import textwrap

import pytest
from pulumi.output import UNKNOWN
from pulumi.runtime import rpc

from config.problems import ConfigError
from lab import config
from lab.layout import chosen_lab
from lab.rehearsal import __main__ as rehearsal
from lab.rehearsal import resources
from tests.conftest import ROOT

SERVICE = "docker:index/service:Service"
SECRET = "docker:index/secret:Secret"
COMMAND = "command:local:Command"
NETWORK = "docker:index/network:Network"

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


def record(token=SECRET, name="x", **values):
    return resources.Record(type=token, name=name, host="unix:///x", **{"inputs": {}} | values)


class TestTranslation:
    def test_a_service_with_everything_is_what_the_provider_sends(self):
        """Names, units and nesting become those of the Engine API."""
        given = {
            "name": "web",
            "labels": [{"label": "a", "value": "1"}],
            "mode": {"replicated": {"replicas": 2}},
            "taskSpec": {
                "containerSpec": {
                    "image": "i@sha256:0",
                    "commands": ["run"],
                    "args": ["-x"],
                    "env": {"B": "2", "A": "1"},
                    "init": True,
                    "capDrops": ["ALL"],
                    "stopGracePeriod": "1m30s",
                    "healthcheck": {"tests": ["CMD", "true"], "interval": "250ms", "retries": 3},
                    "hosts": [{"host": "h", "ip": "10.0.0.1"}],
                    "mounts": [{"type": "bind", "target": "/t", "bindOptions": {}}],
                    "secrets": [{"secretId": "s", "secretName": "n", "fileName": "f"}],
                    "configs": [{"configId": "c", "fileName": "g", "fileMode": 0o400}],
                },
                "resources": {"limits": {"nanoCpus": 5, "memoryBytes": 6}},
                "restartPolicy": {"condition": "any", "delay": "1s"},
                "placement": {
                    "constraints": ["node.role==manager"],
                    "platforms": [{"os": "linux", "architecture": "amd64"}],
                    "prefs": ["node.labels.zone"],
                },
                "networksAdvanceds": [{"id": "net", "aliases": ["w"]}],
                "logDriver": {"name": "json-file", "options": {"max-size": "1m"}},
            },
            "updateConfig": {"order": "start-first", "maxFailureRatio": "0.5"},
            "endpointSpec": {"ports": [{"targetPort": 80, "publishMode": "host"}]},
        }
        expected = {
            "name": "web",
            "labels": {"a": "1"},
            "mode": {"Replicated": {"Replicas": 2}},
            "task_template": {
                "ContainerSpec": {
                    "Image": "i@sha256:0",
                    "Command": ["run"],
                    "Args": ["-x"],
                    "Env": ["A=1", "B=2"],
                    "Init": True,
                    "CapabilityDrop": ["ALL"],
                    "StopGracePeriod": 90 * 10**9,
                    "Healthcheck": {"Test": ["CMD", "true"], "Interval": 25 * 10**7, "Retries": 3},
                    "Hosts": ["10.0.0.1 h"],
                    "DNSConfig": {},
                    "Mounts": [
                        {
                            "Type": "bind",
                            "Target": "/t",
                            "BindOptions": {"Propagation": "rprivate"},
                        }
                    ],
                    "Secrets": [
                        {
                            "SecretID": "s",
                            "SecretName": "n",
                            "File": {"Name": "f", "UID": "0", "GID": "0", "Mode": 0o444},
                        }
                    ],
                    "Configs": [
                        {
                            "ConfigID": "c",
                            "File": {"Name": "g", "UID": "0", "GID": "0", "Mode": 0o400},
                        }
                    ],
                },
                "Resources": {"Limits": {"NanoCPUs": 5, "MemoryBytes": 6}},
                "RestartPolicy": {
                    "Condition": "any",
                    "Delay": 10**9,
                    "MaxAttempts": 0,
                    "Window": 0,
                },
                "Placement": {
                    "Constraints": ["node.role==manager"],
                    "Platforms": [{"OS": "linux", "Architecture": "amd64"}],
                    "Preferences": [{"Spread": {"SpreadDescriptor": "node.labels.zone"}}],
                },
                "Networks": [{"Target": "net", "Aliases": ["w"]}],
                "LogDriver": {"Name": "json-file", "Options": {"max-size": "1m"}},
            },
            "update_config": {
                "Parallelism": 1,
                "FailureAction": "pause",
                "Monitor": 5 * 10**9,
                "MaxFailureRatio": 0.5,
                "Order": "start-first",
            },
            "endpoint_spec": {
                "Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishMode": "host"}]
            },
        }
        assert expected == resources.translate(SERVICE, given)

    def test_what_is_left_out_is_sent_as_the_provider_does(self):
        """A bare service gets the provider's zeros, not the engine's defaults."""
        given = {"name": "web", "taskSpec": {"containerSpec": {"image": "i"}}}
        container = {
            "Image": "i",
            "Init": False,
            "StopGracePeriod": 0,
            "Healthcheck": {},
            "DNSConfig": {},
        }
        expected = {
            "name": "web",
            "mode": {},
            "endpoint_spec": {},
            "task_template": {
                "ContainerSpec": container,
                "Resources": {},
                "RestartPolicy": {},
                "Placement": {},
            },
        }
        assert expected == resources.translate(SERVICE, given)

    def test_secret_data_is_decoded(self):
        """The data of secrets and configs is base64 in Pulumi and bytes for the client."""
        expected = {"name": "n", "data": b"hush"}
        assert expected == resources.translate(SECRET, {"name": "n", "data": "aHVzaA=="})

    def test_a_service_may_be_on_every_node(self):
        """The API has an empty object where the provider has a yes."""
        assert {"Global": {}} == resources.translate(SERVICE, {"mode": {"global": True}})["mode"]

    def test_unknown_values_of_a_preview_pass(self):
        """A value that only the deployment will know is not converted."""
        given = {"data": UNKNOWN, "labels": [{"label": "a", "value": UNKNOWN}]}
        assert {"data": UNKNOWN, "labels": {"a": UNKNOWN}} == resources.translate(SECRET, given)

    @pytest.mark.parametrize(
        ("given", "where"),
        [
            ({"convergeConfig": {}}, "convergeConfig"),
            ({"mode": {"job": True}}, "mode: job"),
            ({"taskSpec": {"containerSpec": {"privileges": {}}}}, "taskSpec: containerSpec: priv"),
            ({"taskSpec": {"networksAdvanceds": [{"name": "n"}]}}, "networksAdvanceds: name"),
        ],
    )
    def test_a_property_that_is_not_known_is_an_error(self, given, where):
        """Nothing is skipped: the error leads to the property."""
        with pytest.raises(ValueError, match=f"{where}.*does not know this property"):
            resources.translate(SERVICE, given)


class TestNanoseconds:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("0s", 0),
            ("5s", 5 * 10**9),
            ("1m30s", 90 * 10**9),
            ("1.5h", 5400 * 10**9),
            ("250ms", 250 * 10**6),
            ("2us3ns", 2003),
        ],
    )
    def test_durations_are_read_as_go_writes_them(self, text, expected):
        """Numbers with units add up."""
        assert expected == resources.nanoseconds(text)

    @pytest.mark.parametrize("text", ["", "5", "5 s", "5sec", "1m 30s", "s", "-1s"])
    def test_other_durations_are_refused(self, text):
        """What the provider would silently send as 0 is an error."""
        with pytest.raises(ValueError, match="is not a duration such as 1m30s"):
            resources.nanoseconds(text)


class TestPlan:
    @pytest.mark.parametrize(
        ("token", "changed", "expected"),
        [
            (SERVICE, "taskSpec", "update"),
            (SERVICE, "labels", "update"),
            (SERVICE, "name", "replace"),
            (COMMAND, "environment", "update"),
            (COMMAND, "triggers", "replace"),
            (NETWORK, "attachable", "replace"),
            (SECRET, "data", "replace"),
            ("docker:index/serviceConfig:ServiceConfig", "data", "replace"),
            ("random:index/randomPassword:RandomPassword", "length", "replace"),
            ("pulumi:providers:docker", "host", "update"),
        ],
    )
    def test_a_change_is_what_it_is_for_the_engine(self, token, changed, expected):
        """Each type has inputs that it can take in place and others that replace it."""
        old = record(token, inputs={"other": 1, changed: "a"})
        for inputs in ({"other": 1, changed: "b"}, {"other": 1}):
            assert (expected, [changed]) == rehearsal.plan(old, record(token, inputs=inputs))

    def test_the_first_time_is_a_creation(self):
        """What the state does not have is created."""
        assert rehearsal.plan(None, record()) == ("create", [])

    def test_equal_inputs_are_left_alone(self):
        """Numbers that come back as floats and secrets that come wrapped are no change."""
        old = record(inputs={"a": [2, {"b": 3}], "s": "hush"})
        seen = rehearsal.plain({"a": [2.0, {"b": 3.0}], "s": rpc.wrap_rpc_secret("hush")})
        assert rehearsal.plan(old, record(inputs=seen)) == ("same", [])

    def test_whole_numbers_are_integers(self):
        """The mock monitor turns every number into a float, which the Engine API refuses."""
        assert json.dumps(rehearsal.plain([2.0, 0.5, True])) == "[2, 0.5, true]"

    def test_what_is_to_be_ignored_is_as_it_was(self):
        """As by the option `ignore_changes`; the first time there is nothing else to keep."""
        new = record(inputs={"keepers": {"a": 1, "b": 2}})
        for before, expected in (
            (None, {"a": 1, "b": 2}),
            (record(inputs={"keepers": {"a": 0, "b": 0}}), {"a": 1, "b": 0}),
            (record(inputs={"keepers": {"a": 0}}), {"a": 1}),
            (record(), {"a": 1}),
        ):
            found = rehearsal.ignoring(["keepers.b"], before, new)
            assert {"keepers": expected} == found.inputs

    def test_to_ignore_what_nobody_declares_changes_nothing(self):
        """The program gives no such input, and the rehearsal's Swarm has none from before."""
        new = record(inputs={"name": "n"})
        assert new == rehearsal.ignoring(["attachable", "labels"], new, new)

    def test_what_is_unknown_yet_is_a_change(self):
        """A preview counts a value that only the deployment will know as changed."""
        old = record(SERVICE, inputs={"taskSpec": {"id": "1"}})
        new = record(SERVICE, inputs={"taskSpec": {"id": UNKNOWN}})
        assert rehearsal.plan(old, new) == ("update", ["taskSpec"])

    def test_every_known_type_has_a_rule(self):
        """The rules name types that the table of properties has."""
        assert rehearsal.FIXED.keys() <= resources.BLOCKS.keys()


class TestState:
    def test_it_survives_and_is_private(self, tmp_path):
        """What was booked is read again; nobody else can read it."""
        path = tmp_path / "private" / "dev.json"
        kept = record(inputs={"data": "aHVzaA=="}, id="1", outputs={"name": "n"})
        rehearsal.State(path).book("a", kept)
        assert {"a": kept} == rehearsal.State(path).rest
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    def test_without_resources_there_is_no_file(self, tmp_path):
        """What is destroyed leaves nothing, twice."""
        state = rehearsal.State(tmp_path / "dev.json")
        state.book("a", record())
        for _ in range(2):
            state.book("a")
            assert not state.path.exists()

    def test_a_run_that_failed_keeps_an_order_to_destroy_in(self, tmp_path):
        """What was not reached comes last, after what was replaced: it may still use it."""
        path = tmp_path / "dev.json"
        first = rehearsal.State(path)
        for name in ("network", "config", "service"):
            first.book(name, record(name=name, id="1"))
        second = rehearsal.State(path)
        second.book("network", record(name="network", id="1"))
        second.book("config", record(name="config", id="2"), old=second.rest["config"])
        expected = ["network", "config", "config::1", "service"]
        assert expected == list(json.loads(path.read_text())["resources"])

    @pytest.mark.parametrize(
        ("there", "kept"), [("old", ["provider", "secret"]), ("new", []), ("", [])]
    )
    def test_another_swarm_at_the_address_means_a_new_start(self, tmp_path, there, kept):
        """What was on a Swarm that is gone is not looked for on the one that took its place."""
        state = rehearsal.State(tmp_path / "dev.json")
        on_old = {"id": "unix:///x", "outputs": {resources.SWARM: "old"}}
        state.book("provider", record(resources.PROVIDER, **on_old))
        state.book("secret", record(id="1"))
        found = rehearsal.State(state.path)
        found.forget_another_swarm(lambda host: {"unix:///x": there}[host])
        assert kept == list(found.rest)
        assert bool(kept) == state.path.exists()

    def test_what_others_did_is_undone(self, tmp_path):
        """What is gone is made anew, what is changed is updated whatever it was before."""
        state = rehearsal.State(tmp_path / "dev.json")
        inputs = {"name": "x", "labels": []}
        for key in ("gone", "changed", "same"):
            state.book(key, record(SERVICE, name=key, id="1", inputs=inputs))
        found = rehearsal.State(state.path)
        found.refresh(lambda each: "" if each.name == "same" else each.name)
        plans = [rehearsal.plan(found.rest.get(key), new)[0] for key, new in state.reached.items()]
        assert ["create", "update", "same"] == plans

    def test_a_preview_writes_nothing(self, tmp_path):
        """A dry state keeps what it is told to itself."""
        state = rehearsal.State(tmp_path / "dev.json", dry=True)
        state.book("a", record())
        assert not list(tmp_path.iterdir())


class TestConfig:
    def test_defaults_are_encoded_as_the_engine_does(self):
        """Text stays as it is, everything else is JSON."""
        expected = {"p:count": "4", "p:text": "a b", "p:flag": "false", "p:list": '["x","y"]'}
        assert expected == config.load_config(PROJECT, {})

    def test_the_stack_has_the_last_word(self):
        """A value of the stack replaces the default, whether its key names the project or not."""
        found = config.load_config(PROJECT, {"config": {"p:count": 6, "text": "c"}})
        assert found["p:count"] == "6"
        assert found["p:text"] == "c"

    @pytest.mark.parametrize("value", [{"secure": "v1:x"}, {"a": [{"secure": "v1:x"}]}])
    def test_an_encrypted_value_is_refused(self, value):
        """Only the engine has the key, wherever in the value the secret is."""
        with pytest.raises(resources.RefusedError, match=r"p:text.*only the real engine"):
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
    def test_a_config_file_that_cannot_be_read_is_named(self, text, why, tmp_path):
        """In one line, with its place and what may stand there."""
        (tmp_path / "Pulumi.dev.yaml").write_text(text)
        with pytest.raises(ConfigError, match=f"- Pulumi.dev.yaml: it cannot be read, {why}"):
            config.stack_file(tmp_path / "Pulumi.dev.yaml")

    def test_a_config_file_need_not_be_there_unless_it_is_named(self, tmp_path):
        """A stack of defaults has none."""
        assert {"config": {}} == config.stack_file(tmp_path / "Pulumi.dev.yaml")
        with pytest.raises(FileNotFoundError):
            config.stack_file(tmp_path / "other.yaml", named=True)

    def test_offline_an_encrypted_value_has_another_in_its_place(self):
        """A preview needs no passphrase; the key is known to be a secret all the same."""
        stack = {"config": {"p:text": {"secure": "v1:x"}, "p:count": 6}}
        assert "not-decrypted" == config.load_config(PROJECT, stack, offline=True)["p:text"]
        assert ["p:text"] == config.secret_keys(stack)


class TestCommand:
    def test_it_runs_with_what_it_was_given(self):
        """Standard input, environment and both outputs are the script's."""
        inputs = {
            "create": "cat; echo $GREETING >&2",
            "stdin": "in\n",
            "environment": {"GREETING": "hello"},
            "logging": "none",
        }
        done = resources.create(record(COMMAND, inputs=inputs))
        assert done.outputs == {"stdout": "in", "stderr": "hello"}

    def test_an_update_knows_what_was_before(self):
        """The update's script is preferred and sees the earlier output."""
        inputs = {"create": "echo 1", "update": "echo $PULUMI_COMMAND_STDOUT 2"}
        old = record(COMMAND, inputs=inputs, id="i", outputs={"stdout": "1", "stderr": ""})
        done = resources.update(record(COMMAND, inputs=inputs), old)
        assert ("i", "1 2") == (done.id, done.outputs["stdout"])

    def test_a_failure_shows_its_output(self):
        """The error has the status and what the script wrote."""
        inputs = {"create": "echo out; echo err >&2; exit 3", "logging": "none"}
        with pytest.raises(RuntimeError, match=r"exit status 3 .*\nout\nerr\n"):
            resources.create(record(COMMAND, inputs=inputs))

    def test_one_that_starts_while_all_are_told_to_end_is_told_too(self, monkeypatch):
        """Between its start and its entry in the list nobody else can reach it."""
        monkeypatch.setattr(resources, "_told", [])
        popen = subprocess.Popen

        def interrupted(*arguments, **options):
            child = popen(*arguments, **options)
            resources.stop()
            return child

        monkeypatch.setattr(resources.subprocess, "Popen", interrupted)
        with pytest.raises(RuntimeError, match="exit status -15"):
            resources.create(record(COMMAND, inputs={"create": "exec sleep 60"}))


class TestProvider:
    @pytest.mark.parametrize(
        "host", ["ssh://manager", "ssh://root@127.0.0.1", "tcp://10.0.0.1:2375", ""]
    )
    def test_a_swarm_elsewhere_is_refused(self, host):
        """The rehearsal is for a Swarm of this machine."""
        with pytest.raises(resources.RefusedError, match="this machine only"):
            resources.create(record(resources.PROVIDER, inputs={"host": host}))

    @pytest.mark.parametrize("scheme", ["ssh", "tcp"])
    def test_the_labs_own_manager_may_be_behind_ssh_alone(self, monkeypatch, scheme):
        """The lab is of this machine, whichever way there is taken."""
        monkeypatch.setattr(resources, "swarm_of", lambda _: "swarm-id")
        host = f"{scheme}://root@{chosen_lab().master.address}:2222"
        provider = record(resources.PROVIDER, inputs={"host": host})
        if scheme == "ssh":
            assert host == resources.create(provider).id
        else:
            with pytest.raises(resources.RefusedError):
                resources.create(provider)


class TestRun:
    """The whole way round, without a Swarm: Commands and random values need none."""

    PROGRAM = """
        import pulumi, pulumi_command, pulumi_random
        config = pulumi.Config()
        token = pulumi_random.RandomPassword("token", length=20).result
        if not config.get("script"):
            raise pulumi.RunError("script: is missing")
        command = pulumi_command.local.Command(
            "run", create=config.get("script"), stdin=token, triggers=[config.get("script")],
            delete="echo $PULUMI_COMMAND_STDOUT >>deleted",
        )
        pulumi.export("said", command.stderr)
        pulumi.export("length", token.apply(len))
    """

    @pytest.fixture
    def run(self, tmp_path):
        """Return what runs the rehearsal on the program above, in its own folder."""
        (tmp_path / "Pulumi.yaml").write_text("{name: p, runtime: python}")
        (tmp_path / "__main__.py").write_text(textwrap.dedent(self.PROGRAM))

        def call(*arguments, script=""):
            (tmp_path / "Pulumi.dev.yaml").write_text(json.dumps({"config": {"p:script": script}}))
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

    def test_what_is_put_up_is_left_alone_and_taken_down(self, run, tmp_path):
        """Twice up changes nothing the second time; destroy leaves no state."""
        assert "2 create" in run("up", script="wc -c >&2").stdout
        assert "2 same" in run("up", script="wc -c >&2").stdout
        assert "run replace (create, triggers" in run("preview", script="true").stdout
        shown = json.loads(run("output", "--json").stdout)
        assert {"length": "[secret]", "said": "[secret]"} == shown
        assert run("output", "said", "--show-secrets").stdout == "20\n"
        assert "2 delete" in run("destroy").stdout
        assert not list(tmp_path.glob(".pulumi/rehearsal/*"))

    def test_what_is_replaced_is_deleted_at_the_end(self, run, tmp_path):
        """The new one comes first, then the old one is deleted as it was created."""
        run("up", script="true; echo old")
        assert "1 same, 1 replace, 1 delete" in run("up", script="true; echo new").stdout
        assert (tmp_path / "deleted").read_text() == "old\n"

    def test_a_command_that_fails_is_not_in_the_state(self, run):
        """The run fails with the script's words, and the next one tries again."""
        failed = run("up", script="echo why >&2; exit 7")
        assert failed.returncode == 1
        assert "exit status 7" in failed.stderr
        assert "why" in failed.stderr
        assert "1 same, 1 create" in run("up", script="true").stdout

    def test_an_output_that_is_not_there_is_an_error(self, run):
        """Nothing is printed in place of what the stack does not have."""
        assert run("output", "said").returncode == 1

    def test_an_error_of_the_program_is_its_message_alone(self, run):
        """The settings' words are for people, a traceback is not."""
        failed = run("up")
        assert failed.returncode == 1
        assert failed.stderr == "error: script: is missing\n"

    def test_interrupted_it_ends_its_commands(self, run, tmp_path):
        """A script is told to end and may clean up; what was done before is in the state."""
        script = "trap 'touch cleaned; exit 1' TERM; kill -INT $PPID; while :; do sleep 0.1; done"
        assert run("up", script=script).returncode == 130
        assert (tmp_path / "cleaned").exists()
        assert "1 same, 1 create" in run("up", script="true").stdout
