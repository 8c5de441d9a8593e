"""A client in the notebook connects to this cluster and has the stack's settings."""

import json
from contextlib import closing

import docker
import pytest
from docker import types

from tests.conftest import wait_for
from tests.swarm.containers import healthy_ids, notebook_container, run_in

SECRET = "planted-secret-3f7a"
SETTINGS = {
    "environment": {"GREETING": SECRET, "DASK_DISTRIBUTED__COMM__RETRY__COUNT": 7},
    "daskConfig": {"array": {"chunk-size": "7MiB"}},
    "prefect": "none",
}
# Sets the variables as Jupyter does for every kernel.
BEGIN = """
import json, os, pathlib
os.environ.update(json.loads(pathlib.Path("/run/secrets/dask_environment").read_text()))
import dask, distributed
from dask.distributed import Client, LocalCluster
"""


@pytest.fixture(scope="module")
def cluster(deployed):
    """Return a deployment with variables and Dask configuration."""
    with deployed("rehearsal", **SETTINGS) as deployment:
        yield deployment


@pytest.fixture
def other_scheduler(lab, swarm, images):
    """Run another scheduler of the same name on Caddy's network, which sorts first."""
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
        wait_for("other scheduler", lambda: runs(service))
        yield
    finally:
        service.remove()


def runs(service):
    """Return whether a task of a service runs."""
    tasks = service.tasks({"desired-state": "running"})
    return any(task["Status"]["State"] == "running" for task in tasks)


def answer(lab, code):
    """Run code in the notebook and return its variable `result`."""
    program = f"{BEGIN}\n{code}\nprint(json.dumps(result))"
    with notebook_container(lab) as notebook:
        output = run_in(notebook, "timeout", "90", "python", "-c", program)
    return json.loads(output.splitlines()[-1])


@pytest.mark.parametrize("address", ["", "'scheduler:8786'"])
def test_a_client_connects_to_this_cluster_despite_another_scheduler(
    cluster, lab, other_scheduler, address
):
    """It shows an address that works, and a link that a browser can open."""
    result = answer(
        lab,
        f"client = Client({address}); client.wait_for_workers(4, timeout=30)\n"
        "result = [len(client.scheduler_info(n_workers=-1)['workers']), repr(client),"
        " client.dashboard_link]",
    )
    assert 4 == result[0]
    assert "tls://scheduler:8786" in result[1]
    assert "/proxy/scheduler:8787/status" == result[2]


def test_variables_and_configuration_reach_workers_and_notebook(cluster, lab):
    """Variables that Dask reads arrive too."""
    result = answer(
        lab,
        "read = lambda: [os.environ['GREETING'], dask.config.get('array.chunk-size'),"
        " dask.config.get('distributed.comm.retry.count')]\n"
        "result = [read(), *Client().run(read).values()]",
    )
    assert [[SECRET, "7MiB", 7]] * 5 == result


def test_variables_are_not_shown(cluster, lab, swarm):
    """Services, containers, configs, logs and outputs do not contain them."""
    shown = [json.dumps(service.attrs) for service in swarm.services.list()]
    shown += [json.dumps(config.attrs) for config in swarm.configs.list()]
    for node in lab.nodes:
        with closing(docker.DockerClient(node.docker_host)) as engine:
            containers = engine.containers.list()
            shown += [json.dumps(container.attrs) for container in containers]
            shown += [container.logs().decode() for container in containers]
    shown.append(json.dumps(cluster.runner.outputs()))
    assert not [text for text in shown if SECRET in text]


def test_a_local_cluster_works(cluster, lab):
    """Users try small computations in the notebook alone."""
    # In threads: processes would import the program, which is no file.
    own = "LocalCluster(n_workers=1, threads_per_worker=1, processes=False)"
    code = f"with {own} as own, Client(own) as client: result = client.submit(abs, -3).result()"
    assert 3 == answer(lab, code)


def test_changed_variables_replace_workers_and_notebook_only(cluster, lab):
    """The scheduler keeps its state."""
    before = container_ids(lab)
    cluster.configure(**SETTINGS | {"environment": {"GREETING": "another"}})
    cluster.run("up")
    after = container_ids(lab)
    changed = {name for name in before if before[name].isdisjoint(after[name])}
    assert {"dask_worker", "dask_notebook"} == changed


def container_ids(lab):
    """Return the ids of the healthy containers by service."""
    ids = {"dask_scheduler": set(), "dask_worker": set(), "dask_notebook": set()}
    for node in lab.nodes:
        with closing(docker.DockerClient(node.docker_host)) as engine:
            for name in ids:
                ids[name] |= healthy_ids(engine, name)
    return ids
