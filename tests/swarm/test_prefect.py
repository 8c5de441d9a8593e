"""A managed Prefect server with flows on the cluster, by every runner of this machine."""

import json
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from uuid import uuid4

import docker
import pytest
from playwright.sync_api import expect

from tests.conftest import wait_for
from tests.swarm.conftest import RUNNERS, specs, task_ids
from tests.swarm.containers import container_of, notebook_container, run_in
from tests.swarm.ingress import DOMAIN, MANAGED_CADDY
from tests.swarm.notebooks import run_example
from tests.swarm.test_browser import MILLISECONDS, Ingress, browser  # noqa: F401  a fixture
from tests.swarm.test_networks import attached
from tools import backup

PROGRAM_SECONDS = 240
CONFIG = {**MANAGED_CADDY, "prefect": "managed", "healthDeadline": 280}
API = "http://dask_prefect:4200/api"
# Sets the variables of the notebook's kernels.
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

@flow(name=sys.argv[1], task_runner=DaskTaskRunner(address="scheduler:8786"))
def squares():
    seconds = float(sys.argv[3])
    return [run.result() for run in square.map(range(int(sys.argv[2])), seconds)]

state = squares(return_state=True)
print("found", json.dumps([state.type.value, state.result()]))
"""
EVENTS = """
import json
from distributed import Client
with Client("scheduler:8786") as client:
    print(json.dumps([number for _, number in client.get_events("squared")]))
"""
# New files with the mode and the link that a user may give them.
MAKE_FILES = """
cd && rm -rf kept && mkdir -p kept/folder && cd kept
head -c 30000000 /dev/urandom >data && chmod 640 data && ln -s ../data folder/link && date +%N >now
"""
LIST = "find . -type f -exec sha256sum {} + | sort; find . -printf '%p %U %G %m %l\n' | sort"
ASK = """
import json, sys, urllib.request
request = urllib.request.Request(sys.argv[1], sys.argv[2].encode())
request.add_header("Content-Type", "application/json")
print(urllib.request.urlopen(request).read().decode())
"""
# Prints the answers to requests for page, API and a websocket at a host, None without an answer.
KNOCK = """
import json, sys
from http.client import HTTPConnection
upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
           "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
forged = {"Proxy-Authorization": "forged", "X-Forwarded-For": "127.0.0.1"}
tries = [("GET", "/", {}), ("GET", "/api/health", {}), ("POST", "/api/flows/filter", {}),
         ("POST", "/api/flows/filter", forged), ("GET", "/api/events/out", upgrade)]
statuses = []
for method, path, headers in tries:
    try:
        connection = HTTPConnection(sys.argv[1], 4200, timeout=2)
        connection.request(method, path, headers=headers)
        statuses.append(connection.getresponse().status)
    except OSError as error:
        statuses = [None]
        break
print(json.dumps(statuses))
"""


@pytest.fixture(scope="module", params=RUNNERS)
def cluster(request, deployed):
    """Return a deployed cluster with a Prefect server, which is destroyed afterwards."""
    with deployed(request.param, **CONFIG) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def name(cluster):
    """Return a new flow name for each stack, because the server's volume outlives it."""
    return f"eight-{uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def notebook(cluster, lab):
    """Return the notebook's container on the master."""
    with notebook_container(lab) as container:
        yield container


def python_in(container, *arguments):
    """Run a Python program with arguments in a container; return its status and its output."""
    limited = ["timeout", str(PROGRAM_SECONDS), "python", "-c"]
    status, output = container.exec_run([*limited, *map(str, arguments)])
    return status, output.decode()


def ask(notebook, path, **filters):
    """Send a request of the notebook to the server's API and return the answer."""
    status, output = python_in(notebook, ASK, API + path, json.dumps(filters))
    assert 0 == status, output
    return json.loads(output)


def runs_of(notebook, name):
    """Return the states of a flow's runs on the server."""
    runs = ask(notebook, "/flow_runs/filter", flows={"name": {"any_": [name]}})
    return [run["state_type"] for run in runs]


def result_of(output):
    """Return the final state and the result of a flow."""
    (line,) = [line for line in output.splitlines() if line.startswith("found ")]
    return json.loads(line.removeprefix("found "))


def server(swarm):
    """Return the server's service."""
    return swarm.services.list(filters={"name": "dask_prefect"})[0]


def test_a_flow_is_proven_on_every_worker(cluster, notebook):
    """The output has the proof, and the server's lists are empty again."""
    health = cluster.runner.outputs()["health"]
    assert ("COMPLETED", 4) == (health["prefect"]["state"], health["prefect"]["tasks"])
    ours = {"name": {"like_": "dask-swarm-proof"}}
    assert [] == ask(notebook, "/flows/filter", flows=ours)
    assert 0 == ask(notebook, "/task_runs/count", task_runs=ours)


def test_a_flow_of_the_notebooks_runs_on_the_cluster(notebook, name):
    """Eight mapped tasks succeed, and the server shows the completed run."""
    status, output = python_in(notebook, FLOW, name, 8, 0)
    assert 0 == status, output
    assert ["COMPLETED", [number**2 for number in range(8)]] == result_of(output)
    assert ["COMPLETED"] == runs_of(notebook, name)


def test_the_example_runs_its_flow(notebook):
    """It runs as for a user, with the configured server."""
    printed = run_example(notebook, "3-prefect-flow")
    assert f"The Prefect server is {API}" in printed
    assert str(sum(number**2 for number in range(8))) in printed.splitlines()


def test_a_flow_goes_on_while_workers_are_replaced(swarm, notebook):
    """Every worker is replaced, and no finished task runs twice."""
    (workers,) = swarm.services.list(filters={"name": "dask_worker"})
    before = {task["ID"] for task in workers.tasks(filters={"desired-state": "running"})}
    done_before = len(squared_numbers(notebook))
    with ThreadPoolExecutor(1) as executor:
        running = executor.submit(python_in, notebook, FLOW, "rolled", 40, 3)
        wait_for("finished task", lambda: len(squared_numbers(notebook)) > done_before, 90)
        workers.force_update()
    assert ["COMPLETED", [number**2 for number in range(40)]] == result_of(running.result()[1])
    wait_for("four new workers", lambda: workers_are_new(swarm, before), 120)
    squared = squared_numbers(notebook)[done_before:]
    assert list(range(40)) == sorted(squared)


def squared_numbers(notebook):
    """Return the numbers that tasks have squared so far."""
    return json.loads(python_in(notebook, EVENTS)[1])


def workers_are_new(swarm, before):
    """Return whether four workers run, and no task is one of those before."""
    (workers,) = swarm.services.list(filters={"name": "dask_worker"})
    tasks = workers.tasks(filters={"desired-state": "running"})
    running = {task["ID"] for task in tasks if task["Status"]["State"] == "running"}
    return len(running) == 4 and not running & before


def test_the_page_works_in_a_browser_after_one_login(cluster, browser):  # noqa: F811
    """It shows what its API answers, asks for no login of its own, and nothing is refused."""
    with Ingress(cluster, CONFIG).open_context(browser) as context:
        page, refused = context.new_page(), []
        page.on("response", lambda r: r.status >= 400 and refused.append((r.status, r.url)))
        for path in ("/", "/v2/settings"):
            page.goto(f"https://prefect.{DOMAIN}{path}", wait_until="networkidle")
        shown = expect(page.locator("body"))
        shown.to_contain_text('"home": "/var/tmp/prefect"', timeout=MILLISECONDS)
        assert [] == refused


def test_a_service_on_caddys_network_gets_nothing(swarm, images, lab, notebook):
    """By name and by both addresses, while the notebook gets everything."""
    master, caddys = ["node.labels.role==master"], MANAGED_CADDY["caddyNetwork"]
    (network,) = swarm.networks.list(names=[caddys])
    with (
        closing(docker.DockerClient(lab.docker_host)) as engine,
        attached(swarm, images, "stranger", network.id, constraints=master),
    ):
        stranger, prefect = (container_of(engine, name) for name in ("stranger", "dask_prefect"))
        networks = prefect.attrs["NetworkSettings"]["Networks"]
        addresses = {name: network["IPAddress"] for name, network in networks.items()}
        for host in ("dask_prefect", addresses[caddys]):
            assert [403] * 5 == knock(stranger, host)
        assert [None] == knock(stranger, addresses["dask-network"])
        assert [200, 200, 200, 200, 101] == knock(notebook, "dask_prefect")


def knock(container, host):
    """Return the statuses of a container's requests to Prefect at a host."""
    return json.loads(run_in(container, "python", "-c", KNOCK, host))


def test_without_the_server_a_flow_is_an_error(swarm, notebook):
    """No temporary server starts, whose runs the notebook's user would not find."""
    server(swarm).scale(0)
    wait_for("end of the server", lambda: "running" not in states(server(swarm)))
    status, output = python_in(notebook, FLOW, "missing", 1, 0)
    assert 0 != status
    assert f"Failed to reach API at {API}" in output
    assert "temporary server" not in output


def states(service):
    """Return the states of a service's tasks."""
    return {task["Status"]["State"] for task in service.tasks()}


def test_a_restarted_server_keeps_old_runs(swarm, notebook, name):
    """The server's next task has the same volume."""
    server(swarm).scale(1)
    program = f"import urllib.request; urllib.request.urlopen('{API}/health')"
    wait_for("healthy server", lambda: python_in(notebook, program)[0] == 0, 90)
    assert ["COMPLETED"] == runs_of(notebook, name)
    assert [] == runs_of(notebook, "missing")


# The engine where there is one: its state names the services.
@pytest.mark.parametrize("cluster", RUNNERS[-1:], indirect=True)
def test_a_backup_is_restored_onto_another_node(cluster, lab, swarm, name, tmp_path):
    """All is as it was; a broken archive and a killed restore change nothing."""
    folder, kept = tmp_path / "backup", ["sh", "-c", MAKE_FILES]
    with closing(docker.DockerClient(lab.docker_host)) as engine:
        run_in(container_of(engine, "dask_notebook"), *kept)
        before = what_is_kept(engine)
        history = runs_of(container_of(engine, "dask_notebook"), name)
        assert 0 == copy(cluster, "backup", folder)
        archive = folder / "notebook.tar.gz"
        (tmp_path / "broken.tar.gz").write_bytes(archive.read_bytes()[:-100])
        tasks = task_ids(swarm)
        assert 1 == copy(cluster, "restore", tmp_path / "broken.tar.gz")
        kill_restore(cluster, archive, container_of(engine, "dask_notebook"))
        wait_for("end of the transfer", lambda: not transfers(swarm))
        assert (before, tasks) == (what_is_kept(engine), task_ids(swarm))
    cluster.configure(**CONFIG, controlPlacement="node.hostname==lab-data-1")
    cluster.run("up")
    declared = specs(swarm)
    with closing(docker.DockerClient(lab.nodes[1].docker_host)) as engine:
        run_in(container_of(engine, "dask_notebook"), *kept)
        assert before != what_is_kept(engine)
        assert 0 == copy(cluster, "restore", folder)
        assert before == what_is_kept(engine)
        assert history == runs_of(container_of(engine, "dask_notebook"), name)
    assert declared == specs(swarm)
    assert [] == transfers(swarm)


def copy(cluster, action, folder):
    """Back up or restore a deployed stack and return the exit code."""
    return backup.run(cluster.runner, action, folder=folder, made_by=cluster.runner.stack)


def kill_restore(cluster, archive, notebook):
    """Start a restore, and kill it as soon as it has written files, which must go."""
    begun = ["test", "-e", "/home/jovyan/.dask-swarm-restore"]
    context = multiprocessing.get_context("fork")
    process = context.Process(target=copy, args=(cluster, "restore", archive))
    process.start()
    try:
        wait_for("unpacked files", lambda: notebook.exec_run(begun)[0] == 0)
    finally:
        process.kill()
        process.join()
    wait_for("removal of the new files", lambda: notebook.exec_run(begun)[0] != 0)


def transfers(swarm):
    """Return the services of backups and restores."""
    return swarm.services.list(filters={"name": "dask_transfer"})


def what_is_kept(engine):
    """Return checksums, owners and modes of the notebook's files and of Caddy's certificates."""
    return [
        run_in(container_of(engine, service), "sh", "-c", f"cd {folder} && {LIST}")
        for service, folder in [
            ("dask_notebook", "/home/jovyan/kept"),
            ("dask_caddy", "/var/tmp/caddy/pki"),
        ]
    ]
