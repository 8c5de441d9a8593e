"""The Pulumi runner: the choice of its CLI, its state, and the end of the CLI."""

import contextlib
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from pulumi.automation import PulumiCommand
from semver import VersionInfo

from tests.conftest import wait_for
from tools import runners
from tools.runners import CliMissingError, PulumiRunner

SECONDS = 20  # for an interpreter's start on a busy machine

RUN = """
import sys
from pathlib import Path
from pulumi.automation import PulumiCommand
from tools.runners import PulumiRunner
cli = PulumiCommand(sys.argv[1])
done = PulumiRunner(stack="dev", cli=cli, project=Path(sys.argv[1])).run("up")
print("ended with", done.returncode)
"""

SLOW_CLI = """#!/bin/bash
[[ $1 != version ]] || { echo v3.999.0; exit; }
trap 'sleep 0.5; touch tidied; exit 3' INT
touch started
while :; do sleep 0.1; done
"""


@pytest.mark.parametrize(
    "interrupt",
    [
        pytest.param(lambda process: os.killpg(process.pid, signal.SIGINT), id="at the terminal"),
        pytest.param(lambda process: process.terminate(), id="from elsewhere"),
    ],
)
def test_an_interrupted_cli_can_clean_up(tmp_path, interrupt):
    """A killed CLI would leave the stack locked, and the next deployment would fail."""
    install(tmp_path / "bin", SLOW_CLI)
    with subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            wait_for("CLI", (tmp_path / "started").exists, SECONDS)
            interrupt(process)
            out, err = process.communicate(timeout=SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert ("ended with 3\n", "") == (out, err)
    assert (tmp_path / "tidied").exists()


@pytest.fixture
def no_private_cli(tmp_path, monkeypatch):
    """Have no CLI in `.pulumi`, and an SDK of a certain version."""
    monkeypatch.setattr(runners, "PRIVATE", tmp_path / "private")
    monkeypatch.setattr(runners, "SDK", VersionInfo.parse("3.259.0"))


@pytest.mark.parametrize(
    ("version", "taken"),
    [
        ("v3.259.0", True),
        ("v3.300.1-dev", True),
        ("v3.148.0", False),
        ("v4.0.0", False),
        ("what?", False),
    ],
)
@pytest.mark.usefixtures("no_private_cli")
def test_a_cli_of_another_age_than_the_sdk_is_passed_over(tmp_path, monkeypatch, version, taken):
    """They are tested together; an older CLI, or a later major version, may answer otherwise."""
    install(tmp_path, f"#!/bin/sh\ntest $1 = version && echo '{version}'\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    cli = runners.installed_cli()
    assert taken == (cli is not None)
    assert cli is None or "pulumi" == cli.command


@pytest.mark.usefixtures("no_private_cli")
def test_the_private_cli_stands_in_for_an_old_one(tmp_path, monkeypatch):
    """What was installed once is not installed again."""
    install(tmp_path, "#!/bin/sh\necho v3.1.0\n")
    private = install(tmp_path / "private" / "cli" / "bin", "#!/bin/sh\necho v3.259.0\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert str(private) == runners.installed_cli().command
    assert str(private) == runners.runner_for("production").cli.command


@pytest.mark.usefixtures("no_private_cli")
def test_a_cli_that_cannot_be_had_is_reported(tmp_path, monkeypatch):
    """Thing, state, fix; and not after minutes."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(runners, "INSTALLER", "http://127.0.0.1:9/install.sh")
    with pytest.raises(CliMissingError) as raised:
        runners.runner_for("production")
    message = str(raised.value)
    assert message.startswith("The Pulumi CLI 3.259.0 or newer is not on PATH, and http://127")
    assert "/install.sh cannot be reached (<urlopen error" in message
    assert message.endswith("Fix: install it by hand, see https://www.pulumi.com/docs/install")


def test_an_installer_that_fails_is_reported(monkeypatch, tmp_path):
    """The error has the CLI's output."""
    page = tmp_path / "install.sh"
    page.touch()
    monkeypatch.setattr(runners, "INSTALLER", page.as_uri())

    def fail(*_):
        raise subprocess.CalledProcessError(1, "install.sh", output=b"error: no space left\n")

    monkeypatch.setattr(PulumiCommand, "install", fail)
    monkeypatch.setattr(runners, "installed_cli", lambda: None)
    with pytest.raises(CliMissingError, match=r"its installer failed \(error: no space left\)"):
        runners.runner_for("production")


@pytest.mark.parametrize(
    ("stack", "environment", "expected"),
    [
        (
            "dev",
            {},
            {
                "PULUMI_BACKEND_URL": "file://PRIVATE/state?metadata=skip",
                "PULUMI_CONFIG_PASSPHRASE": "",
            },
        ),
        ("dev", {"PULUMI_BACKEND_URL": "s3://state"}, {"PULUMI_CONFIG_PASSPHRASE": ""}),
        ("production", {}, {}),
    ],
)
def test_the_dev_stack_has_its_state_here(tmp_path, monkeypatch, stack, environment, expected):
    """Unless the user names another backend; other stacks are the user's business."""
    monkeypatch.setattr(runners, "PRIVATE", tmp_path)
    monkeypatch.setattr(runners, "installed_cli", lambda: SimpleNamespace(command="pulumi"))
    for name in ("PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = runners.runner_for(stack).settings
    expected = {name: text.replace("PRIVATE", str(tmp_path)) for name, text in expected.items()}
    assert expected == settings


def test_the_state_is_the_users_alone(tmp_path):
    """Its passphrase is empty."""
    runners.file_backend(tmp_path / "private" / "state")
    assert 0o700 == (tmp_path / "private" / "state").stat().st_mode & 0o777


def test_a_secret_output_is_masked(tmp_path):
    """It is shown on request only."""
    outputs = """#!/bin/sh
case "$*" in
  *--show-secrets*) echo '{"token": "t", "url": "u"}' ;;
  *version) echo v3.999.0 ;;
  *) echo '{"token": "[secret]", "url": "u"}' ;;
esac
"""
    install(tmp_path / "bin", outputs)
    runner = PulumiRunner(stack="dev", cli=PulumiCommand(str(tmp_path)))
    assert {"token": "[secret]", "url": "u"} == runner.outputs()
    assert {"token": "t", "url": "u"} == runner.outputs(secrets=True)


def install(folder, script):
    """Put a script into a folder as its Pulumi CLI."""
    folder.mkdir(parents=True, exist_ok=True)
    cli = folder / "pulumi"
    cli.write_text(script)
    cli.chmod(0o755)
    return cli
