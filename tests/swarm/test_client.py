"""What a client in the notebook finds: this cluster and no other, and the settings for work."""

import json
from contextlib import closing

import docker
import pytest
from docker import types

from tests.swarm.conftest import wait_for
from tests.swarm.ingress import healthy
from tests.swarm.notebooks import deployed_notebook

SECRET = "planted-secret-3f7a"
SETTINGS = {
    "environment": {"GREETING": SECRET, "DASK_DISTRIBUTED__COMM__RETRY__COUNT": 7},
    "daskConfig": {"array": {"chunk-size": "7MiB"}},
    "prefect": "none",
}
# With the variables that Jupyter gives to every kernel.
BEGIN = """
import json, os, pathlib
os.environ.update(json.loads(pathlib.Path("/run/secrets/dask_environment").read_text()))
import dask, distributed
from dask.distributed import Client, LocalCluster
"""


@pytest.fixture(scope="module")
def cluster(deployed):
    """Return a deployment with settings for work."""
    with deployed("rehearsal", **SETTINGS) as deployment:
        yield deployment


@pytest.fixture
def other_scheduler(lab, swarm, images):
    """Run another scheduler of the same name on Caddy's network, whose name comes first."""
    service = swarm.services.create(
        images["image"],
        args=["dask", "scheduler"],
        name="other",
        networks=[types.NetworkAttachmentConfig("caddy-network", ["scheduler"])],
        endpoint_spec=types.EndpointSpec(mode="dnsrr"),
        constraints=["node.labels.role==master"],
        stop_grace_period=10**9,
    )
    try:
        running = {"desired-state": "running"}
        wait_for(lambda: [t for t in service.tasks(running) if t["Status"]["State"] == "running"])
        yield
    finally:
        service.remove()


def answer(lab, code):
    """Return what the variable `found` holds after some code was run in the notebook."""
    with deployed_notebook(lab) as notebook:
        program = f"{BEGIN}\n{code}\nprint(json.dumps(found))"
        status, output = notebook.exec_run(["timeout", "90", "python", "-c", program])
        assert 0 == status, output.decode()
        return json.loads(output.decode().splitlines()[-1])


@pytest.mark.parametrize("address", ["", "'scheduler:8786'"])
def test_a_client_finds_this_cluster_whatever_else_is_called_scheduler(
    cluster, lab, other_scheduler, address
):
    """And shows an address that works, and a link that a browser can follow."""
    found = answer(
        lab,
        f"client = Client({address}); client.wait_for_workers(4, timeout=30)\n"
        "found = [len(client.scheduler_info(n_workers=-1)['workers']), repr(client),"
        " client.dashboard_link]",
    )
    assert 4 == found[0]
    assert "tcp://scheduler:8786" in found[1]
    assert "/proxy/scheduler:8787/status" == found[2]


def test_variables_and_configuration_reach_workers_and_notebook(cluster, lab):
    """Variables that Dask reads count, too."""
    found = answer(
        lab,
        "look = lambda: [os.environ['GREETING'], dask.config.get('array.chunk-size'),"
        " dask.config.get('distributed.comm.retry.count')]\n"
        "found = [look(), *Client().run(look).values()]",
    )
    assert [[SECRET, "7MiB", 7]] * 5 == found


def test_variables_show_nowhere(cluster, lab, swarm):
    """Neither in services and containers, nor in logs and outputs."""
    shown = [json.dumps(each.attrs) for each in swarm.services.list()]
    shown += [json.dumps(each.attrs) for each in swarm.configs.list()]
    for node in lab.nodes:
        with closing(docker.DockerClient(node.docker_host)) as engine:
            containers = engine.containers.list()
            shown += [json.dumps(each.attrs) for each in containers]
            shown += [each.logs().decode() for each in containers]
    shown.append(json.dumps(cluster.runner.outputs()))
    assert not [text for text in shown if SECRET in text]


def test_a_cluster_of_the_notebooks_own_works(cluster, lab):
    """For trying something small."""
    # In threads: processes are started by importing a program that is a file.
    own = "LocalCluster(n_workers=1, threads_per_worker=1, processes=False)"
    code = f"with {own} as own, Client(own) as client: found = client.submit(sum, [1, 2]).result()"
    assert 3 == answer(lab, code)


def test_changed_variables_replace_workers_and_notebook_alone(cluster, lab, swarm):
    """The scheduler and what it knows stay."""
    before = started(lab, swarm)
    cluster.configure(**SETTINGS | {"environment": {"GREETING": "another"}})
    cluster.run("up")
    after = started(lab, swarm)
    changed = {name for name in before if before[name].isdisjoint(after[name])}
    assert {"dask_worker", "dask_notebook"} == changed


def started(lab, swarm):
    """Return the ids of the healthy containers by service."""
    found = {}
    for name in ("dask_scheduler", "dask_worker", "dask_notebook"):
        found[name] = set()
        for node in lab.nodes:
            with closing(docker.DockerClient(node.docker_host)) as engine:
                found[name] |= {each.id for each in healthy(engine, name, None)}
    return found
