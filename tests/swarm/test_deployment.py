"""The program deployed on three nodes, by every runner of this machine."""

import base64
import json
import urllib.parse
from contextlib import closing

import docker
import pytest

from tests.conftest import ROOT, wait_for
from tests.swarm.conftest import (
    RUNNERS,
    cluster_services,
    probe_services,
    proof_records,
    service_of,
)
from tests.swarm.containers import containers_of, notebook_container, run_in

PI = """
from dask.distributed import Client
import dask.array as da
with Client("scheduler:8786", timeout="30s") as client:
    client.wait_for_workers(4, timeout=30)
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    total = da.arange(1_000_000, chunks=50_000).sum().compute()
    print("found", len(workers), sum(w["nthreads"] for w in workers),
          sum(w["memory_limit"] for w in workers), total)
"""


@pytest.fixture(scope="module", params=RUNNERS)
def cluster(request, deployed):
    """Return a deployed cluster, which is destroyed afterwards."""
    with deployed(request.param) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def notebook(cluster, lab):
    """Return the notebook's container on the master."""
    with notebook_container(lab) as container:
        yield container


def python_in(container, program):
    """Run a Python program in a container and return its output."""
    return run_in(container, "python", "-c", program)


def test_the_deployment_is_proven(cluster):
    """The stack's output has the proof: four workers, two on each data node."""
    health = cluster.runner.outputs()["health"]
    assert (4, 4, 4 * 2**30) == (health["workers"], health["threads"], health["memory_bytes"])
    assert {"lab-data-1": 2, "lab-data-2": 2} == health["nodes"]
    assert {"dask", "distributed", "python"} <= set(health["versions"])
    assert health["seconds"] > 0


def test_all_tasks_run_on_their_nodes(cluster, swarm):
    """`docker service ls` would say 1/1, 1/1 and 4/4."""
    nodes = {node.id: node.attrs["Description"]["Hostname"] for node in swarm.nodes.list()}
    running = {
        service.name: sorted(
            nodes[task["NodeID"]]
            for task in service.tasks(filters={"desired-state": "running"})
            if task["Status"]["State"] == "running"
        )
        for service in cluster_services(swarm)
    }
    expected = {
        "dask_scheduler": ["lab-master"],
        "dask_notebook": ["lab-master"],
        "dask_worker": ["lab-data-1", "lab-data-1", "lab-data-2", "lab-data-2"],
    }
    assert expected == running


def test_the_notebook_computes_on_the_cluster(notebook):
    """In the notebook's container `Client("scheduler:8786")` computes on 4 workers."""
    expected = f"found 4 4 {4 * 2**30} 499999500000"
    assert expected == python_in(notebook, PI).strip().splitlines()[-1]


def test_the_notebook_knows_the_schedulers_address(notebook):
    """`Client()` without an address connects."""
    program = "from dask.distributed import Client; print(Client(timeout='20s').scheduler.address)"
    assert "tls://scheduler:8786" == python_in(notebook, program).strip()


def test_the_notebook_asks_for_its_token(cluster, notebook):
    """The server answers requests with the token, and refuses all others."""
    token = cluster.runner.outputs(secrets=True)["notebook_token"]
    program = f"""
import urllib.error, urllib.request
def status(headers):
    request = urllib.request.Request("http://127.0.0.1:8888/api/status", headers=headers)
    try:
        return urllib.request.urlopen(request).status
    except urllib.error.HTTPError as error:
        return error.code
print(status({{}}), status({{"Authorization": "token wrong"}}),
      status({{"Authorization": "token {token}"}}))
"""
    assert "403 403 200" == python_in(notebook, program).strip()


def test_the_token_is_shown_nowhere(cluster, swarm, lab):
    """No spec, label, environment, command line or log contains it."""
    token = cluster.runner.outputs(secrets=True)["notebook_token"]
    spellings = {token, base64.b64encode(token.encode()).decode(), urllib.parse.quote(token)}
    with closing(docker.DockerClient(lab.docker_host)) as engine:
        texts = [json.dumps(container.attrs) for container in engine.containers.list()]
    for service in swarm.services.list():
        texts.append(json.dumps(service.attrs))
        texts.append(b"".join(service.logs(stdout=True, stderr=True)).decode())
    assert texts
    assert not [text for text in texts for spelling in spellings if spelling in text]
    assert "[secret]" == cluster.runner.outputs()["notebook_token"]


def test_no_port_is_published(cluster, swarm):
    """The cluster cannot be reached from outside its networks."""
    services = swarm.services.list()
    assert not [service for service in services if service.attrs["Endpoint"].get("Ports")]


def test_the_probe_leaves_nothing(cluster, swarm):
    """Only the three services remain after a deployment."""
    assert not probe_services(swarm)


def versions(swarm):
    """Return the version of every service of the cluster."""
    return {service.name: service.version for service in cluster_services(swarm)}


def test_a_second_up_changes_nothing(cluster, swarm):
    """Without a change no task is touched and no probe runs."""
    before = versions(swarm)
    if cluster.runner.name == "pulumi":
        cluster.run("preview", "--expect-no-changes")
        cluster.run("preview", "--refresh", "--expect-no-changes")
    cluster.run("up")
    assert before == versions(swarm)


def test_a_preview_offline_shows_only_what_would_change(cluster, monkeypatch, request):
    """With a record of the Swarm, a preview without the Swarm shows the change alone."""
    request.addfinalizer((ROOT / "recorded.test.json").unlink)
    monkeypatch.setenv("DASK_SWARM_RECORD", "1")
    cluster.run("preview")
    monkeypatch.setenv("DASK_SWARM_OFFLINE", "1")
    offline = cluster.runner.offline
    before = cluster.run("preview", *offline)
    # Only the provider changes: offline it has no engine.
    assert "1 update," in before or "~ 1 to update\n" in before
    assert "replace" not in before
    assert 5 == before.count(", recorded in recorded.test.json")
    cluster.configure(workers=3)
    try:
        after = cluster.run("preview", *offline)
    finally:
        cluster.configure()
    assert "dask-workers-service" in after
    assert "dask-scheduler-service update" not in after
    assert "2 update," in after or "~ 2 to update\n" in after


def test_a_killed_worker_is_replaced(cluster, swarm, notebook, lab):
    """Swarm replaces a worker whose process dies, and the cluster has four workers again."""
    node = lab.nodes[1]
    with closing(docker.DockerClient(node.docker_host)) as engine:
        containers_of(engine, "dask_worker")[0].kill()
    wait_for("four workers", lambda: "found 4 4" in python_in(notebook, PI), pause=1)


def test_drift_is_repaired_and_proven_again(cluster, swarm):
    """A scaled and a removed service are as declared again, with a new proof."""
    before = proof_records(swarm)
    service_of(swarm, "dask_worker").scale(3)
    service_of(swarm, "dask_notebook").remove()
    cluster.run("up")
    mode = service_of(swarm, "dask_worker").attrs["Spec"]["Mode"]
    assert {"Replicated": {"Replicas": 4}} == mode
    assert service_of(swarm, "dask_notebook")
    assert before != proof_records(swarm)


def test_a_repair_is_proven_once(cluster, swarm):
    """The next deployment proves nothing, because nothing has changed since."""
    if cluster.runner.name == "rehearsal":
        pytest.skip("only the engine ignores that the drift of the last deployment is repaired")
    proven = proof_records(swarm)
    cluster.run("up")
    assert proven == proof_records(swarm)
