"""The notebook as a user sees it: its examples, panels and dashboard work."""

import json

import pytest

from tests.swarm.containers import notebook_container, run_in
from tests.swarm.notebooks import EXAMPLES, run_example
from tests.swarm.wheels import OPTIONS, copy_into, wheel

# Sends requests in the container like a browser, and prints status and text of the answers.
ASK = """
import json, sys, urllib.error, urllib.request

class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *rest):
        return None

for path in {paths!r}:
    headers = {headers!r}
    request = urllib.request.Request("http://127.0.0.1:8888" + path, headers=headers)
    try:
        answer = urllib.request.build_opener(Stay).open(request, timeout=60)
    except urllib.error.HTTPError as error:
        answer = error
    print(json.dumps([answer.status, answer.read().decode()]))
"""
DASHBOARD = "/proxy/scheduler:8787/status"
# Loads a plot of the dashboard like a browser: the page, then a message of its websocket.
PLOT = """
import asyncio, re, urllib.request
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

headers = {headers!r}
path = "127.0.0.1:8888/proxy/scheduler:8787/individual-task-stream"
page = urllib.request.urlopen(urllib.request.Request("http://" + path, headers=headers)).read()
session = re.search('"token":"([^"]+)"', page.decode())[1]

async def first():
    request = HTTPRequest("ws://" + path + "/ws", headers=headers)
    plot = await websocket_connect(request, subprotocols=["bokeh", session])
    return await plot.read_message()

print(asyncio.run(asyncio.wait_for(first(), 30)))
"""


@pytest.fixture(scope="module")
def cluster(deployed):
    """Return a cluster with neither an object store nor a Prefect server."""
    with deployed("rehearsal", prefect="none", healthDeadline=300) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def notebook(cluster, lab):
    """Return the notebook's container."""
    with notebook_container(lab) as container:
        yield container


@pytest.fixture(scope="module")
def login(cluster):
    """Return the headers of a logged-in user."""
    return {"Authorization": f"token {cluster.runner.outputs(secrets=True)['notebook_token']}"}


def ask(container, paths, headers):
    """Return status and text of the server's answer to each path."""
    program = ASK.format(paths=paths, headers=headers)
    return [json.loads(line) for line in run_in(container, "python", "-c", program).splitlines()]


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_example_runs(notebook, name):
    """Every cell succeeds, with a home that is a volume."""
    run_example(notebook, name)


def test_an_example_reports_a_missing_service(notebook):
    """Without an object store or a Prefect server, its example says so and does nothing."""
    assert "There is no object store" in run_example(notebook, "2-dataframes-on-s3")
    assert "There is no Prefect server" in run_example(notebook, "3-prefect-flow")


def test_the_examples_are_in_the_file_browser(notebook, login):
    """JupyterLab lists the examples in the home, and opens them read-only."""
    paths = ["/api/contents/examples", f"/api/contents/examples/{EXAMPLES[0]}.ipynb"]
    (status, folder), (opened, example) = ask(notebook, paths, login)
    assert (200, 200) == (status, opened)
    assert all(f"{name}.ipynb" in folder for name in EXAMPLES)
    assert '"writable": false' in example


def test_the_dashboard_is_behind_the_notebooks_login(notebook, login):
    """Anonymous requests are sent to the login; a logged-in user gets the dashboard."""
    ((anonymous, _),) = ask(notebook, [DASHBOARD], {})
    ((status, page),) = ask(notebook, [DASHBOARD], login)
    assert (302, 200) == (anonymous, status)
    assert "Dask" in page


def test_the_dashboards_plots_are_live(notebook, login):
    """The websocket of a plot passes through the notebook too."""
    assert '"ACK"' in run_in(notebook, "python", "-c", PLOT.format(headers=login))


def test_the_notebook_proxies_only_the_dashboard(notebook, login):
    """Other ports and addresses of the scheduler, and workers, are refused."""
    paths = [
        f"/proxy/{to}/" for to in ("scheduler:8786", "dask_scheduler:8787", "dask_worker:8789")
    ]
    assert [403, 403, 403] == [status for status, _ in ask(notebook, paths, login)]


def test_the_panels_show_this_cluster(notebook, login):
    """JupyterLab's Dask panels are configured, and it does not ask about news."""
    path = "/lab/api/settings/dask-labextension:plugin"
    (settings, page) = ask(notebook, [path, "/lab"], login)
    assert '"/proxy/scheduler:8787"' in settings[1]
    assert "@jupyterlab/apputils-extension:announcements" in page[1]


def test_pip_works_in_a_cell(notebook):
    """`%pip install` adds a package that the same notebook can import."""
    copy_into(notebook, wheel("small", "1.0"))
    program = f"%pip install {OPTIONS} small\nimport small; print('found', small.VERSION)"
    _, output = notebook.exec_run(["ipython", "-c", program])
    notebook.exec_run(["python", "-m", "pip", "uninstall", "--yes", "small"])
    assert "found 1.0" in output.decode()


def test_a_local_cluster_by_mistake_is_explained(notebook):
    """`Client(n_workers=2)` fails because an address is configured, and the error says so."""
    program = "from dask.distributed import Client; Client(n_workers=2)"
    _, output = notebook.exec_run(["ipython", "--colors=NoColor", "-c", program])
    assert "Client(LocalCluster(n_workers=2))" in output.decode()
