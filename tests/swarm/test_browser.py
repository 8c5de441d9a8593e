"""The whole thing in a real browser: portal, JupyterLab, a cell, the dashboard's live stream."""

import os
import re
import shutil
import time
from contextlib import closing

import docker
import pytest
from playwright.sync_api import expect, sync_playwright

from lab.packages import ensure_packages
from tests.conftest import ROOT
from tests.front.portal import PASSWORD, USER
from tests.swarm.fronts import container_of, healthy, joining

NAMES = {"notebook": "notebook.dask.localhost", "dashboard": "dashboard.dask.localhost"}
BACK_SECONDS = 5
START_SECONDS = 60
PATIENCE = 60_000  # milliseconds; everything shares two CPUs
CELL = """
from dask.distributed import Client; import dask.array as da, time
client = Client("scheduler:8786"); client.wait_for_workers(4)
workers = client.scheduler_info(n_workers=-1)["workers"].values()
print("found", len(workers), sum(w["nthreads"] for w in workers),
      f"{sum(w['memory_limit'] for w in workers) / 2**30:.2f} GiB",
      da.arange(1_000_000, chunks=50_000).sum().compute())
LAST = True
""".strip()


@pytest.fixture(scope="module")
def front(edge, deployed):
    """Return a deployment under a domain that a browser lets cookies be shared in."""
    with deployed("rehearsal", **config(edge)) as deployment:
        yield deployment


def config(edge, **changes):
    names = {"domain": "dask.localhost", "autheliaPortal": "https://portal.dask.localhost"}
    return joining(edge) | names | changes


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Return where screenshots go: `PICTURES=docs make test` renews the README's."""
    wanted = os.environ.get("PICTURES")
    return ROOT / wanted if wanted else tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def browser(lab):
    """Return Debian's Chromium, for which all names under localhost are the lab's master."""
    ensure_packages(["chromium"])
    program = shutil.which("chromium")
    rules = f"MAP *.localhost {lab.master.address}"
    with sync_playwright() as playwright:
        arguments = [f"--host-resolver-rules={rules}", "--no-sandbox", "--disable-gpu"]
        chromium = playwright.chromium.launch(executable_path=program, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def visitor(front, browser, pictures):
    """Return a browser's context in which somebody has logged in at the portal."""
    context = browser.new_context(
        ignore_https_errors=True, viewport={"width": 1280, "height": 800}
    )
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(f"https://{NAMES['dashboard']}/status")
    assert page.url.startswith("https://portal.dask.localhost/?rd=https%3A%2F%2Fdashboard.")
    page.screenshot(path=pictures / "login.png")
    page.fill("[name=username]", USER)
    page.fill("[name=password]", PASSWORD)
    page.click("button")
    page.wait_for_url(f"https://{NAMES['dashboard']}/status")
    page.close()
    yield context
    context.close()


def test_a_cell_computes_while_the_dashboard_moves(front, visitor, edge, pictures):
    """JupyterLab runs a cell on four workers; the task stream's websocket is live and stays."""
    dashboard = visitor.new_page()
    frames, closed = [], []
    dashboard.on("websocket", lambda ws: watch(ws, frames, closed))
    dashboard.goto(f"https://{NAMES['dashboard']}/status")
    dashboard.wait_for_selector(".bk-Figure, canvas")
    until(dashboard, lambda: frames, "a frame of the dashboard")

    lab_page = visitor.new_page()
    token = front.runner.outputs(secrets=True)["notebook_token"]
    lab_page.goto(f"https://{NAMES['notebook']}/lab?token={token}")
    lab_page.click('.jp-LauncherCard[data-category="Notebook"] >> nth=0')
    cell = lab_page.locator(".jp-Notebook .cm-content").first
    lab_page.wait_for_selector("text=/Python 3 .ipykernel. . Idle/")
    cell.fill(CELL)
    expect(cell).to_contain_text("LAST = True", timeout=PATIENCE)
    before = len(frames)
    lab_page.keyboard.press("Shift+Enter")
    output = lab_page.locator(".jp-OutputArea-output", has_text="found").first
    expect(output).to_contain_text("found 4 4 4.00 GiB 499999500000", timeout=PATIENCE)
    until(dashboard, lambda: len(frames) > before, "the task stream to move")
    lab_page.screenshot(path=pictures / "notebook.png")
    dashboard.screenshot(path=pictures / "dashboard.png")

    # A change of the fragments is rolled out: the websocket stays, and goes on.
    place = edge / "sites" / "dask-swarm.caddy"
    old = place.stat().st_mtime_ns
    front.configure(**config(edge, notebookName="lab"))
    front.run("up")
    assert old != place.stat().st_mtime_ns
    count = len(frames)
    until(dashboard, lambda: len(frames) > count, "frames after a reload")
    assert not closed
    front.configure(**config(edge))
    front.run("up")


def watch(socket, frames, closed):
    if re.search(r"/ws(\?|$)", socket.url):
        socket.on("framereceived", lambda _: frames.append(1))
        socket.on("close", lambda _: closed.append(1))


def until(page, met, what):
    """Wait for something while the browser's events are taken in."""
    deadline = time.monotonic() + START_SECONDS
    while not met():
        assert time.monotonic() < deadline, what
        page.wait_for_timeout(50)


def test_the_page_comes_back_after_the_notebooks_task_was_killed(front, visitor, lab):
    """Within 5 s of the new task being healthy the page is there again."""
    page = visitor.new_page()
    with closing(docker.DockerClient(lab.docker_host)) as engine:
        old = container_of(engine, "dask_notebook")
        old.kill()
        until(page, lambda: healthy(engine, "dask_notebook", old.id), "a new task")
    start = time.monotonic()
    while page.goto(f"https://{NAMES['notebook']}/login").status != 200:
        assert time.monotonic() - start < BACK_SECONDS
    assert time.monotonic() - start < BACK_SECONDS
    assert "Jupyter" in page.title()
