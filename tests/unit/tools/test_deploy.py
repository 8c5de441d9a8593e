"""What `make up` says at its end, and the table of `make bench`."""

import os
import subprocess

import pytest

from bench.measure import report
from tools import deploy
from tools.deploy import summary
from tools.runners import PulumiCli, Rehearsal

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


def test_the_summary_is_the_proof():
    """The first line says in Dask's own terms what was proven."""
    first, *rest = summary(OUTPUTS, "pulumi stack output").splitlines()
    assert "Proven in 7.2 s: workers 4, threads 4, memory 4.00 GiB" == first
    assert "  workers on data-1 2, data-2 2; dask 1, distributed 2, python 4" == rest[0]
    assert "  token      pulumi stack output" == rest[-1]


def test_a_notebook_without_a_token_has_no_line_for_one():
    """It has a password, or no login of its own; the engine leaves such an output out."""
    outputs = {key: value for key, value in OUTPUTS.items() if key != "notebook_token"}
    assert "token" not in summary(outputs, "pulumi stack output")


def test_the_summary_says_how_to_log_in():
    """With a front it was proven closed, and who deploys learns user and password's command."""
    health = OUTPUTS["health"] | {"front": {"auth": "basic", "login_tried": True}}
    outputs = OUTPUTS | {"health": health, "login_user": "dask"}
    lines = summary(outputs, "pulumi stack output notebook_token --stack dev").splitlines()
    assert "  front      closed without the basic login, opens with it" == lines[2]
    assert "  login      dask" == lines[-2]
    assert "  password   pulumi stack output login_password --stack dev" == lines[-1]


def test_the_summary_says_where_prefect_is():
    """Where the stack runs its server."""
    lines = summary(OUTPUTS | {"prefect_url": "https://prefect.localhost"}, "x").splitlines()
    assert "  prefect    https://prefect.localhost" in lines
    assert "prefect" not in summary(OUTPUTS | {"prefect_url": None}, "x")


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
        assert line in summary(outputs, "pulumi stack output").splitlines()


def test_the_summary_tells_what_could_not_be_tried():
    """Without an account of Authelia's the half behind the login is not proven."""
    health = OUTPUTS["health"] | {"front": {"auth": "authelia", "login_tried": False}}
    text = summary(OUTPUTS | {"health": health}, "pulumi stack output")
    assert "front      closed without the authelia login, not tried with it\n" in text


def test_the_token_command_can_be_pasted():
    """It brings along what the dev stack's backend needs, the empty passphrase included."""
    settings = {"PULUMI_BACKEND_URL": "file:///a b", "PULUMI_CONFIG_PASSPHRASE": ""}
    command = PulumiCli(stack="dev", settings=settings).token_command()
    assert command.startswith(
        "PULUMI_BACKEND_URL='file:///a b' PULUMI_CONFIG_PASSPHRASE='' pulumi"
    )
    assert command.endswith("notebook_token --show-secrets --stack dev")


def test_the_bench_compares_neighbours():
    """A ratio is the median over the rounds, each against the first arm of its own round."""
    table = report("Seconds", {"first": [1.0, 10.0, 2.0], "second": [2.0, 10.0, 6.0]})
    assert "  first                                             1.0     2.0   10.0   1.00" in table
    assert "  second                                            2.0     6.0   10.0   2.00" in table


class Asked:
    """A runner that keeps what it is asked, and with which switches."""

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
    """What `make` is told becomes an action, its options and the program's switches."""
    runner = Asked()
    monkeypatch.setattr(deploy, "runner_for", lambda _: runner)
    monkeypatch.setattr(os, "environ", {"PATH": os.environ["PATH"]})
    assert 0 == deploy.main(arguments)
    assert [expected] == runner.runs


def test_drift_is_not_denied_without_the_engine(monkeypatch, capsys):
    """The rehearsal sees less, and says so instead of finding nothing."""
    monkeypatch.setattr(deploy, "runner_for", lambda stack: Rehearsal(stack=stack))
    assert 2 == deploy.main(["drift"])
    assert "takes the Pulumi CLI" in capsys.readouterr().err
