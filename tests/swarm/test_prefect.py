"""A Prefect server of the stack's own, with flows on the cluster, by every runner there is."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from uuid import uuid4

import docker
import pytest

from tests.swarm import ingress
from tests.swarm.conftest import RUNNERS, wait_for
from tests.swarm.ingress import container_of
from tests.swarm.notebooks import run_example

API = "http://dask_prefect:4200/api"
# As a kernel of the notebook has it.
ENVIRONMENT = """
import json, os
from pathlib import Path
os.environ.update(json.loads(Path("/run/secrets/dask_environment").read_text()))
"""
FLOW = f"""{ENVIRONMENT}
import sys, time
from prefect import flow, task
from prefect_dask import DaskTaskRunner

@task
def square(number, seconds):
    from distributed import get_worker
    time.sleep(seconds)
    get_worker().log_event("squared", number)
    return number**2

@flow(name=sys.argv[1], task_runner=DaskTaskRunner(address="tcp://scheduler:8786"))
def squares():
    seconds = float(sys.argv[3])
    return [each.result() for each in square.map(range(int(sys.argv[2])), seconds)]

state = squares(return_state=True)
print("found", json.dumps([state.type.value, state.result()]))
"""
EVENTS = """
import json
from distributed import Client
with Client("scheduler:8786") as client:
    print(json.dumps([number for _, number in client.get_events("squared")]))
"""
ASK = """
import json, sys, urllib.request
asked = urllib.request.Request(sys.argv[1], sys.argv[2].encode())
asked.add_header("Content-Type", "application/json")
print(urllib.request.urlopen(asked).read().decode())
"""


@pytest.fixture(scope="module", params=RUNNERS)
def cluster(request, deployed):
    """Return a deployed cluster with a Prefect server, which is destroyed afterwards."""
    with deployed(
        request.param, **ingress.MANAGED_CADDY, prefect="managed", healthDeadline=280
    ) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def name():
    """Return a flow's name that no run before has: the server's volume outlives the stack."""
    return f"eight-{uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def notebook(cluster, lab):
    """Return the notebook's container on the master."""
    with closing(docker.DockerClient(lab.docker_host)) as engine:
        yield container_of(engine, "dask_notebook")


def python_in(container, *arguments):
    """Run a Python program with arguments in a container; return its status and its output."""
    status, output = container.exec_run(["python", "-c", *map(str, arguments)])
    return status, output.decode()


def ask(notebook, path, **filters):
    """Return what the server's API answers to the notebook."""
    status, output = python_in(notebook, ASK, API + path, json.dumps(filters))
    assert 0 == status, output
    return json.loads(output)


def runs_of(notebook, name):
    """Return the states of the runs of a flow, as the server has them."""
    found = ask(notebook, "/flow_runs/filter", flows={"name": {"any_": [name]}})
    return [each["state_type"] for each in found]


def result_of(output):
    """Return in which state a flow has ended and with which result."""
    (line,) = [each for each in output.splitlines() if each.startswith("found ")]
    return json.loads(line.removeprefix("found "))


def server(swarm):
    """Return the service of the server."""
    return swarm.services.list(filters={"name": "dask_prefect"})[0]


def test_a_flow_is_proven_on_every_worker(cluster, notebook):
    """The deployment says so, and leaves nothing in the server's lists."""
    health = cluster.runner.outputs()["health"]
    assert ("COMPLETED", 4) == (health["prefect"]["state"], health["prefect"]["tasks"])
    ours = {"name": {"like_": "dask-swarm-proof"}}
    assert [] == ask(notebook, "/flows/filter", flows=ours)
    assert 0 == ask(notebook, "/task_runs/count", task_runs=ours)


def test_a_flow_of_the_notebooks_runs_on_the_cluster(notebook, name):
    """Eight mapped tasks; the server has the run as completed."""
    status, output = python_in(notebook, FLOW, name, 8, 0)
    assert 0 == status, output
    assert ["COMPLETED", [number**2 for number in range(8)]] == result_of(output)
    assert ["COMPLETED"] == runs_of(notebook, name)


def test_the_example_runs_its_flow(notebook):
    """As a person opens it, with the server that is configured."""
    printed = run_example(notebook, "3-prefect-flow")
    assert f"The Prefect server is {API}" in printed
    assert str(sum(number**2 for number in range(8))) in printed.splitlines()


def test_a_flow_goes_on_while_workers_are_replaced(swarm, notebook):
    """Each worker is another one in the end, and no task that was finished ran twice."""
    (workers,) = swarm.services.list(filters={"name": "dask_worker"})
    before = {each["ID"] for each in workers.tasks(filters={"desired-state": "running"})}
    done_before = len(json.loads(python_in(notebook, EVENTS)[1]))
    with ThreadPoolExecutor(1) as executor:
        running = executor.submit(python_in, notebook, FLOW, "rolled", 40, 3)
        wait_for(lambda: len(json.loads(python_in(notebook, EVENTS)[1])) > done_before, 90)
        workers.force_update()
    assert ["COMPLETED", [number**2 for number in range(40)]] == result_of(running.result()[1])
    wait_for(lambda: _updated(swarm, before), 120)
    squared = json.loads(python_in(notebook, EVENTS)[1])[done_before:]
    assert list(range(40)) == sorted(squared)


def _updated(swarm, before):
    (workers,) = swarm.services.list(filters={"name": "dask_worker"})
    now = workers.tasks(filters={"desired-state": "running"})
    running = {each["ID"] for each in now if each["Status"]["State"] == "running"}
    return len(running) == 4 and not running & before


def test_without_the_server_a_flow_is_an_error(swarm, notebook):
    """And no temporary server, of which the notebook's user would not find the runs."""
    server(swarm).scale(0)
    wait_for(lambda: not server(swarm).tasks(filters={"desired-state": "running"}))
    begun = time.monotonic()
    status, output = python_in(notebook, FLOW, "missing", 1, 0)
    assert 0 != status
    assert f"Failed to reach API at {API}" in output
    assert "temporary server" not in output
    assert time.monotonic() - begun < 60


def test_the_server_keeps_the_runs_of_the_past(swarm, notebook, name):
    """Another task of the server has the same volume."""
    server(swarm).scale(1)
    program = f"import urllib.request; urllib.request.urlopen('{API}/health')"
    wait_for(lambda: python_in(notebook, program)[0] == 0, 90)
    assert ["COMPLETED"] == runs_of(notebook, name)
    assert [] == runs_of(notebook, "missing")
