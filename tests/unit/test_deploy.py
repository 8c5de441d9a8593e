"""What `make up` says at its end, and the table of `make bench`."""

from bench.measure import report
from lab.deploy import summary
from lab.runners import PulumiCli

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
        "versions": {"dask": "2026.8.0", "python": "3.12.1"},
        "seconds": 7.25,
    },
}


def test_the_summary_is_the_proof():
    """The first line says in Dask's own terms what was proven."""
    first, *rest = summary(OUTPUTS, "pulumi stack output").splitlines()
    assert "Proven in 7.2 s: workers 4, threads 4, memory 4.00 GiB" == first
    assert "  workers on data-1 2, data-2 2; dask 2026.8.0, python 3.12.1" == rest[0]
    assert "  token      pulumi stack output" == rest[-1]


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
