"""A preview without Docker: its replacement facts, messages and refusals."""

import json
import shutil
from pathlib import Path

import pulumi
import pytest

from config.problems import ConfigError
from lab.rehearsal.state import state_file
from lab.runners import RehearsalRunner
from swarm import offline
from tests.conftest import ROOT
from tools.runners import PulumiRunner, file_backend, installed_cli

SERVICES = ["dask_scheduler", "dask_worker", "dask_notebook"]


@pytest.fixture
def messages(monkeypatch):
    """Return the messages of the program by their level."""
    lines = {"info": [], "warn": []}
    for level, kept in lines.items():
        monkeypatch.setattr(pulumi.log, level, kept.append)
    return lines


def test_it_asks_nothing_and_warns_of_unknown_facts(preview, messages):
    """Without a record all services are shown, with unresolved tags."""
    program = preview(image="image:1")
    assert "image:1" == program.container("dask_worker")["image"]
    assert set(SERVICES) == set(services(program))
    expected = "offline: image: image:1, not in recorded.test.json; fix: make record STACK=test"
    assert expected in messages["warn"]


def test_it_uses_the_record(run, preview, messages, tmp_path, monkeypatch):
    """Recorded at the Swarm, the same facts are used without it: nothing would change."""
    monkeypatch.setenv("DASK_SWARM_RECORD", "1")
    deployed = run()
    facts = "caddyNetworkId, image, imagePlatforms, notebookImage, notebookImagePlatforms"
    assert f"recorded: {facts} in recorded.test.json" in messages["info"]
    previewed = preview()
    assert services(deployed) == services(previewed)
    assert [] == messages["warn"]
    assert 5 == sum("recorded in recorded.test.json" in line for line in messages["info"])


def test_a_deployment_warns_when_the_record_is_old(run, messages, tmp_path, monkeypatch):
    """Otherwise pull requests would show an old digest for ever."""
    monkeypatch.setattr(offline, "PROJECT", tmp_path)
    old = {"image": {"asked": "image:1 for linux/amd64", "found": "image:1@sha256:0"}}
    (tmp_path / "recorded.test.json").write_text(json.dumps(old))
    run()
    (line,) = messages["warn"]
    assert line.startswith("recorded.test.json is behind the Swarm")
    facts = "caddyNetworkId, image, imagePlatforms, notebookImage, notebookImagePlatforms"
    assert line.endswith(f"{facts}; fix: make record STACK=test")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("ssh://deploy@manager", "ssh://deploy@manager"),
        ("unix:///var/run/docker.sock", "ssh://preview@preview.invalid"),
        ("tcp://manager:2376", "ssh://preview@preview.invalid"),
    ],
)
def test_the_provider_does_not_connect_to_an_engine(preview, host, expected):
    """The provider would connect at every preview to an engine at unix:// or tcp://."""
    (provider,) = preview(dockerHost=host).of_type("pulumi:providers:docker")
    assert expected == provider.inputs["host"]


def test_nothing_is_deployed_offline(run, monkeypatch):
    """An `up` would deploy facts that nothing has checked."""
    monkeypatch.setenv("DASK_SWARM_OFFLINE", "1")
    with pytest.raises(ConfigError, match=r"(?s)DASK_SWARM_OFFLINE.*unset DASK_SWARM_OFFLINE"):
        run()


def test_a_switch_is_on_or_off(run, monkeypatch):
    """Any other word is refused."""
    monkeypatch.setenv("DASK_SWARM_OFFLINE", "yes")
    with pytest.raises(ConfigError, match=r"(?s)'yes' is not valid.*1, 0 or no value"):
        run()


def test_the_record_has_no_secret(run, tmp_path, monkeypatch):
    """The file is for version control."""
    monkeypatch.setattr(offline, "PROJECT", tmp_path)
    monkeypatch.setenv("DASK_SWARM_RECORD", "1")
    run(notebookPassword="correct horse")
    assert "correct horse" not in (tmp_path / "recorded.test.json").read_text()


@pytest.mark.parametrize("runner", ["rehearsal", "pulumi"] if installed_cli() else ["rehearsal"])
def test_a_machine_without_docker_can_preview(tmp_path, monkeypatch, runner):
    """Without a client, a socket or a network the preview shows what would be created."""
    config = tmp_path / "Pulumi.elsewhere.yaml"
    keys = {"dask-swarm:dockerHost": "unix:///nowhere/docker.sock"}
    config.write_text(json.dumps({"config": keys}))
    shutil.copy(ROOT / "Pulumi.yaml", tmp_path)
    chosen = {"stack": "elsewhere", "config_file": config}
    if runner == "pulumi":
        cli = installed_cli()
        backend = file_backend(tmp_path / "state")
        only = _only(Path(shutil.which(cli.command)).resolve().parent, "pulumi*", tmp_path / "bin")
        run = PulumiRunner(cli=cli, settings=backend, **chosen)
    else:
        only, run = tmp_path, RehearsalRunner(**chosen)
    monkeypatch.setenv("PATH", str(only))
    monkeypatch.setenv("DASK_SWARM_OFFLINE", "1")
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    run.create()
    done = run.run("preview", *run.offline, capture=True)
    output = done.stdout + done.stderr
    assert 0 == done.returncode, output
    for name in ("scheduler", "workers", "notebook"):
        assert f"dask-{name}-service" in output
    assert "offline: image: ghcr.io/dask/dask:2026.7.1-py3.12, not in" in output
    assert not (ROOT / state_file("elsewhere")).exists()


def test_the_rehearsal_needs_no_passphrase(tmp_path, monkeypatch):
    """A secret that it cannot decrypt has a stand-in value, which shows nowhere."""
    config = tmp_path / "Pulumi.elsewhere.yaml"
    config.write_text('{"config": {"dask-swarm:notebookPassword": {"secure": "v1:a:b"}}}')
    monkeypatch.setenv("DASK_SWARM_OFFLINE", "1")
    done = RehearsalRunner(stack="elsewhere", config_file=config).run("preview", capture=True)
    assert 0 == done.returncode, done.stderr
    assert "this is not the Pulumi engine" in done.stdout
    assert "not-decrypted" not in done.stdout + done.stderr


def _only(source, pattern, folder):
    """Return a folder with only the programs that match the pattern."""
    folder.mkdir()
    for program in source.glob(pattern):
        (folder / program.name).symlink_to(program)
    return folder


def services(program):
    """Return the inputs of all services by their names: they are registered in any order."""
    services = program.of_type("docker:index/service:Service")
    return {service.inputs["name"]: service.inputs for service in services}
