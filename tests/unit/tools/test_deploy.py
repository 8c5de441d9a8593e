"""The summary of `make up`, and the table of `make bench`."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from pulumi.automation import CommandError

from bench.measure import report
from tests.conftest import ROOT
from tools import backup, deploy
from tools.deploy import summary
from tools.runners import CliMissingError, PulumiRunner

OUTPUTS = {
    "scheduler_address": "tcp://scheduler:8786",
    "dashboard_url": "http://dask_scheduler:8787/status",
    "notebook_url": "http://dask_notebook:8888",
    "notebook_token": "[secret]",
    "health": {
        "workers": 4,
        "threads": 4,
        "memory_bytes": 4 * 2**30,
        "nodes": {"data-2": 2, "data-1": 2},
        "versions": {"dask": "1", "distributed": "2", "numpy": "3", "python": "4"},
        "seconds": 7.25,
    },
}
COMMAND = "pulumi stack output {}".format


def test_the_summary_is_the_proof():
    """The first line has the proof in Dask's terms."""
    first, *rest = summary(OUTPUTS, COMMAND).splitlines()
    assert "Proven in 7.2 s: workers 4, threads 4, memory 4.00 GiB" == first
    assert "  workers on data-1 2, data-2 2; dask 1, distributed 2, python 4" == rest[0]
    assert "  token      pulumi stack output notebook_token" == rest[-1]


def test_a_notebook_without_a_token_has_no_line_for_one():
    """It has a password, or no login of its own; the engine leaves such an output out."""
    outputs = {key: value for key, value in OUTPUTS.items() if key != "notebook_token"}
    assert "token" not in summary(outputs, COMMAND)


def test_the_summary_says_how_to_log_in():
    """With a front it was proven closed, and who deploys learns user and password's command."""
    health = OUTPUTS["health"] | {"front": {"auth": "basic", "login_tried": True}}
    outputs = OUTPUTS | {"health": health, "login_user": "dask"}
    lines = summary(outputs, COMMAND).splitlines()
    assert "  ingress    closed without the basic login, opens with it" == lines[2]
    assert "  login      dask" == lines[-2]
    assert "  password   pulumi stack output login_password" == lines[-1]


def test_the_summary_says_how_long_the_certificates_are_valid():
    """A cluster without encryption is named as such."""
    assert "  scheduler  tcp://scheduler:8786, not encrypted" in summary(OUTPUTS, COMMAND)
    certificates = {"workers": {"valid_until": "2030-01-02", "days": 9}}
    outputs = OUTPUTS | {"health": OUTPUTS["health"] | {"certificates": certificates}}
    assert "8786, certificates valid until 2030-01-02\n" in summary(outputs, COMMAND)


def test_the_summary_says_where_prefect_is():
    """Where the stack runs its server."""
    lines = summary(OUTPUTS | {"prefect_url": "https://prefect.localhost"}, COMMAND).splitlines()
    assert "  prefect    https://prefect.localhost" in lines
    assert "prefect" not in summary(OUTPUTS | {"prefect_url": None}, COMMAND)


def test_the_summary_names_the_work_that_was_done():
    """What the cluster is for was done on it, through the front or from inside."""
    cell = {"workers": 4}
    done = {
        "prefect": {"state": "COMPLETED", "tasks": 4, "seconds": 2.0},
        "object_store": {"bucket": "dask", "bytes": 2**20, "seconds": 1.0},
    }
    front = {"auth": "basic", "login_tried": True, "notebook": {"cell": cell}}
    line = (
        "  work       a cell of the notebook computed on 4 workers; a Prefect flow of 4 tasks "
        "COMPLETED; 1MiB written to and read from dask"
    )
    for how in ({"front": front}, {"cell": cell}):
        outputs = OUTPUTS | {"health": OUTPUTS["health"] | done | how}
        assert line in summary(outputs, COMMAND).splitlines()


def test_the_summary_names_the_workers_that_were_busy():
    """They ran no task of the proof."""
    busy = "dask_worker.3 on data-1 (tcp://10.0.1.5:1) runs train for 412 s"
    outputs = OUTPUTS | {"health": OUTPUTS["health"] | {"busy": [busy]}}
    assert f"  not tried  {busy}" in summary(outputs, COMMAND).splitlines()


def test_the_summary_tells_what_could_not_be_tried():
    """Without an account of Authelia's the half behind the login is not proven."""
    health = OUTPUTS["health"] | {"front": {"auth": "authelia", "login_tried": False}}
    text = summary(OUTPUTS | {"health": health}, COMMAND)
    assert "ingress    closed without the authelia login, not tried with it\n" in text


def test_the_token_command_can_be_pasted():
    """It brings along what the dev stack's backend needs, the empty passphrase included."""
    settings = {"PULUMI_BACKEND_URL": "file:///a b", "PULUMI_CONFIG_PASSPHRASE": ""}
    cli = SimpleNamespace(command="pulumi")
    command = PulumiRunner(stack="dev", cli=cli, settings=settings).output_command(
        "notebook_token"
    )
    assert command.startswith(
        "PULUMI_BACKEND_URL='file:///a b' PULUMI_CONFIG_PASSPHRASE='' pulumi"
    )
    assert command.endswith("notebook_token --show-secrets --stack dev")


def test_the_bench_compares_neighbours():
    """A ratio is the median over the rounds, each against the first arm of its own round."""
    table = report("Seconds", {"first": [1.0, 10.0, 2.0], "second": [2.0, 10.0, 6.0]})
    assert "  first                                             1.0     2.0   10.0   1.00" in table
    assert "  second                                            2.0     6.0   10.0   2.00" in table


class FakeRunner:
    """Records its actions and switches."""

    offline = ("--refresh=false",)

    def __init__(self):
        self.runs = []

    def create(self):
        pass

    def run(self, action, *options):
        switches = [name for name in ("OFFLINE", "RECORD") if os.environ.get(f"DASK_SWARM_{name}")]
        self.runs.append((action, options, switches))
        return subprocess.CompletedProcess([], 0)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["preview"], ("preview", (), [])),
        (["preview", "--offline"], ("preview", ("--refresh=false",), ["OFFLINE"])),
        (["record"], ("preview", (), ["RECORD"])),
        (
            ["drift"],
            ("preview", ("--refresh", "--expect-no-changes", "--non-interactive"), []),
        ),
        (["destroy"], ("destroy", (), [])),
    ],
    ids=["preview", "preview OFFLINE=1", "record", "drift", "destroy"],
)
def test_each_target_is_one_run(monkeypatch, arguments, expected):
    """Arguments of `make` become an action, its options and the program's switches."""
    runner = FakeRunner()
    monkeypatch.setattr(deploy, "runner_for", lambda _: runner)
    monkeypatch.setattr(os, "environ", {"PATH": os.environ["PATH"]})
    assert 0 == deploy.main(arguments)
    assert [expected] == runner.runs


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {"folder": None, "made_by": "prod"}),
        (["--backup", "b", "--from-stack", "old"], {"folder": Path("b"), "made_by": "old"}),
    ],
)
def test_a_restore_creates_no_stack(monkeypatch, arguments, expected):
    """A mistyped name of a stack must not become a stack."""
    runner = SimpleNamespace(stack="prod")
    monkeypatch.setattr(deploy, "runner_for", lambda _: runner)
    calls = []
    monkeypatch.setattr(backup, "run", lambda *given, **named: calls.append((*given, named)) or 7)
    assert 7 == deploy.main(["restore", "--stack", "prod", *arguments])
    assert [(runner, "restore", expected)] == calls


def test_a_stack_that_cannot_be_created_is_reported(monkeypatch, capsys):
    """The CLI's own error is enough."""

    def refuse():
        raise CommandError("stderr: error: incorrect passphrase")

    monkeypatch.setattr(deploy, "runner_for", lambda _: SimpleNamespace(create=refuse))
    assert 1 == deploy.main(["up"])
    assert "incorrect passphrase" in capsys.readouterr().err


def test_without_the_cli_nothing_is_deployed(monkeypatch, capsys):
    """Only the dev stack has another way."""

    def refuse(_):
        raise CliMissingError("The Pulumi CLI is not on PATH. Fix: install it")

    monkeypatch.setattr(deploy, "runner_for", refuse)
    assert 1 == deploy.main(["up", "--stack", "production"])
    assert "The Pulumi CLI is not on PATH. Fix: install it\n" == capsys.readouterr().err


@pytest.mark.parametrize(
    ("stack", "action", "module"),
    [
        ("production", "up", "tools.deploy --stack production up"),
        ("production", "preview", "tools.deploy --stack production preview"),
        ("production", "drift", "tools.deploy --stack production drift"),
        ("dev", "up", "lab.dev up"),
        ("dev", "destroy", "lab.dev destroy"),
        ("production", "backup", "tools.deploy --stack production backup"),
        ("dev", "restore BACKUP=b FROM=c", "lab.dev restore --backup 'b' --from-stack 'c'"),
    ],
)
def test_only_the_dev_stack_has_the_lab(stack, action, module):
    """Of any other stack `make` starts nothing that could set up a Swarm."""
    words = [*action.split(), f"STACK={stack}"]
    make = ["make", "--dry-run", "--old-file=.venv/installed", *words]
    # `make test` hands its own flags and level on, with which make prints more.
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(make, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    (line,) = done.stdout.strip().splitlines()
    assert f".venv/bin/python -m {module}" == " ".join(line.split())


CLI = """#!/bin/sh
echo "$@" >> CALLS
case "$1" in
  version) echo v3.999.0 ;;
  stack) echo '{"deployment": {}}' ;;
  up) exit 3 ;;
esac
"""
# Runs what `make up` runs, and ends at once when that touches anything but the CLI.
DEPLOY = """
import sys
def audit(event, args):
    if event == "import" and args[0].partition(".")[0] == "lab":
        raise SystemExit("the lab is imported")
    if event == "socket.connect":
        raise SystemExit(f"{args[1]} is contacted")
    if event == "subprocess.Popen" and args[0] != "pulumi":
        raise SystemExit(f"{args[0]} is started")
sys.addaudithook(audit)
from tools import deploy
sys.exit(deploy.main(["up", "--stack", "production"]))
"""


def test_a_stack_without_a_manager_only_runs_the_cli(tmp_path):
    """`dockerHost` is then this machine's engine, which must not be made a Swarm for it."""
    cli, calls = tmp_path / "pulumi", tmp_path / "calls"
    cli.write_text(CLI.replace("CALLS", str(calls)))
    cli.chmod(0o755)
    assert not (ROOT / "Pulumi.production.yaml").exists()
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, "-c", DEPLOY],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (3, "") == (done.returncode, done.stderr)
    assert [
        "version",
        "--non-interactive stack select --stack production",
        "stack export --stack production",
        "up --stack production --yes --skip-preview",
        "stack export --stack production",
        "refresh --stack production --yes --skip-preview --non-interactive --skip-pending-creates",
    ] == calls.read_text().splitlines()
