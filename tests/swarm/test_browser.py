"""The ingress in a real browser: one login, then JupyterLab and the dashboard work."""

import os
import re
import secrets
import shutil
import time
from contextlib import closing, contextmanager

import docker
import pytest
from playwright.sync_api import expect, sync_playwright

from lab.debian import ensure_packages
from lab.portal import PASSWORD, USER
from tests.conftest import ROOT, wait_for
from tests.swarm.containers import container_of, healthy_ids
from tests.swarm.ingress import MANAGED_CADDY, joining

DOMAIN = "dask.localhost"  # a browser lets names under it share a cookie
NAMES = {site: f"{site}.{DOMAIN}" for site in ("notebook", "dashboard")}
BACK_SECONDS = 5
START_SECONDS = 60
MILLISECONDS = 60_000  # for each step; everything shares two CPUs
HOME = "/home/jovyan"
GREETING = {"environment": {"GREETING": "hello"}}
CELL = """
from dask.distributed import Client; import dask.array as da, os, time
client = Client(); client.wait_for_workers(4)
workers = client.scheduler_info(n_workers=-1)["workers"].values()
print("found", len(workers), sum(w["nthreads"] for w in workers),
      f"{sum(w['memory_limit'] for w in workers) / 2**30:.2f} GiB",
      da.arange(1_000_000, chunks=50_000).sum().compute(), os.environ["GREETING"])
LAST = True
""".strip()
FOUND = "found 4 4 4.00 GiB 499999500000 hello"


class Ingress:
    """A deployment behind a login, and a browser that logs in."""

    def __init__(self, deployment, config):
        self.deployment, self.config = deployment, config

    def up(self, **changes):
        """Deploy with some config changed."""
        self.deployment.configure(**self.config, **changes)
        self.deployment.run("up")

    def outputs(self):
        return self.deployment.runner.outputs(secrets=True)

    @contextmanager
    def open_context(self, browser):
        """Yield a browser context with a logged-in user."""
        pair = {}
        if self.config.get("auth") == "basic":
            outputs = self.outputs()
            pair = {"username": outputs["login_user"], "password": outputs["login_password"]}
        context = browser.new_context(
            ignore_https_errors=True, viewport={"width": 1280, "height": 800},
            http_credentials=pair or None,
        )  # fmt: skip
        context.set_default_timeout(MILLISECONDS)
        try:
            if not pair:
                log_in_at_portal(context)
            yield context
        finally:
            context.close()


def log_in_at_portal(context, picture=None):
    """Open the dashboard, and log in at the portal."""
    page = context.new_page()
    page.goto(f"https://{NAMES['dashboard']}/status")
    assert page.url.startswith(f"https://portal.{DOMAIN}/?rd=https%3A%2F%2Fdashboard.")
    if picture:
        page.screenshot(path=picture)
    page.fill("[name=username]", USER)
    page.fill("[name=password]", PASSWORD)
    page.click("button")
    page.wait_for_url(f"https://{NAMES['dashboard']}/status")
    page.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Return the folder for screenshots; `PICTURES=docs/images make test` renews the docs."""
    folder = os.environ.get("PICTURES")
    return ROOT / folder if folder else tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def browser(lab):
    """Return Debian's Chromium, which resolves names under localhost to the lab's master."""
    ensure_packages(["chromium"])
    program = shutil.which("chromium")
    rules = f"MAP *.localhost {lab.master.address}"
    with sync_playwright() as playwright:
        arguments = [f"--host-resolver-rules={rules}", "--no-sandbox", "--disable-gpu"]
        chromium = playwright.chromium.launch(executable_path=program, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture
def folder(ingress, lab):
    """Return the name of a new folder in the notebook's home."""
    name = f"browser-{secrets.token_hex(4)}"
    with closing(docker.DockerClient(lab.docker_host)) as engine:
        in_notebook = lambda *command: container_of(engine, "dask_notebook").exec_run(command)  # noqa: E731
        assert 0 == in_notebook("mkdir", f"{HOME}/{name}").exit_code
        yield name
        in_notebook("rm", "-r", f"{HOME}/{name}")
        in_notebook("sh", "-c", f"rm -f {HOME}/.jupyter/lab/workspaces/{name}-*")


class Lab:
    """JupyterLab's page in a folder, in its own workspace, and the refused requests."""

    def __init__(self, context, folder, query=""):
        self.context, self.refused, self.shown = context, [], []
        self.page = context.new_page()
        self.page.on("response", self._answered)
        self.page.on("websocket", self._opened)
        address = f"https://{NAMES['notebook']}/lab/workspaces/{folder}/tree/{folder}{query}"
        self.page.goto(address)
        self.page.wait_for_selector('.jp-LauncherCard[data-category="Notebook"]')

    def _answered(self, response):
        if response.status >= 400:
            self.refused.append((response.status, response.url))

    def _opened(self, socket):
        if "/terminals/websocket/" in socket.url:
            socket.on("framereceived", lambda frame: self.shown.append(str(frame)))

    def compute(self, source):
        """Run a cell in a new notebook and return the place of its output."""
        self.page.click('.jp-LauncherCard[data-category="Notebook"] >> nth=0')
        cell = self.page.locator(".jp-Notebook .cm-content").first
        self.page.wait_for_selector("text=/Python 3 .ipykernel. . Idle/")
        cell.fill(source)
        expect(cell).to_contain_text(source.splitlines()[-1], timeout=MILLISECONDS)
        self.page.keyboard.press("Shift+Enter")
        return self.page.locator(".jp-OutputArea-output", has_text="found").first

    def open_example(self, name):
        """Open an example and run all its cells."""
        address = f"{self.page.url.partition('/tree/')[0]}/tree/{name}"
        self.page.goto(address)
        self.page.wait_for_selector("text=/Python 3 .ipykernel. . Idle/")
        self.page.click(".lm-MenuBar-itemLabel:text-is('Run')")
        self.page.click(".lm-Menu-itemLabel:text-is('Run All Cells')")

    def open_panel(self, name):
        """Open a panel of the dashboard and return the frames of its websocket."""
        frames = []
        self.page.on("websocket", lambda socket: watch(socket, frames, []))
        button = self.page.locator(f"#dask-dashboard-launcher button:text-is('{name}')")
        if not button.is_visible():
            self.page.click('.jp-SideBar .lm-TabBar-tab[data-id="dask-dashboard-launcher"]')
        button.click()
        until(self.page, f"frame of the panel {name}", lambda: frames)
        return frames

    def put_beside(self, name, x, y):
        """Drag a panel by its tab to a place of the page, in pixels."""
        tab = self.page.locator(f"#jp-main-dock-panel .lm-TabBar-tab:has-text('{name}')")
        tab.hover()
        self.page.mouse.down()
        for place in ((x - 100, y), (x - 10, y), (x, y)):
            self.page.mouse.move(*place, steps=10)
            self.page.wait_for_timeout(300)
        self.page.mouse.up()
        self.page.wait_for_timeout(1000)

    def open_terminal(self):
        """Open a terminal."""
        self.page.click(".lm-MenuBar-itemLabel:text-is('File')")
        self.page.hover(".lm-Menu-itemLabel:text-is('New')")
        self.page.click(".lm-Menu-itemLabel:text-is('Terminal')")
        self.page.wait_for_selector(".jp-Terminal-body .xterm-helper-textarea", state="attached")
        until(self.page, "prompt", lambda: self.shown)

    def type(self, command, expected):
        """Type a command into the terminal and wait for its output."""
        self.page.click(".jp-Terminal-body")
        self.page.keyboard.type(command + "\n")
        until(self.page, f"output {expected}", lambda: expected in "".join(self.shown))

    def upload(self, path):
        """Upload a file into the folder."""
        with self.page.expect_file_chooser() as chooser:
            self.page.click("[title^='Upload Files']")
        chooser.value.set_files(path)
        self.page.wait_for_selector(f".jp-DirListing-item:has-text('{path.name}')")

    def download(self, name):
        """Return the content of a file of the folder, downloaded."""
        self.page.click(f".jp-DirListing-item:has-text('{name}')", button="right")
        with self.page.expect_download() as download:
            self.page.click(".lm-Menu-itemLabel:text-is('Download')")
        return download.value.path().read_bytes()


def until(page, what, condition):
    """Wait for a condition while the page handles the browser's events."""

    def check():
        page.wait_for_timeout(50)
        return condition()

    wait_for(what, check, START_SECONDS, pause=0)


class CommonTests:
    """Tests of both modes and both logins."""

    def test_all_of_jupyterlab_works_after_one_login(self, ingress, browser, folder, tmp_path):
        """A cell, a terminal, an upload and a download work; no request is refused."""
        file = tmp_path / "some.bin"
        file.write_bytes(bytes(range(256)) * 4096)
        with ingress.open_context(browser) as context:
            lab = Lab(context, folder)
            expect(lab.compute(CELL)).to_contain_text(FOUND, timeout=MILLISECONDS)
            lab.open_terminal()
            lab.type('echo "<$GREETING>"', "<hello>")
            lab.upload(file)
            assert file.read_bytes() == lab.download(file.name)
            assert [] == lab.refused


class TestManaged(CommonTests):
    """The stack's own Caddy, with a basic login."""

    @pytest.fixture(scope="class")
    @classmethod
    def ingress(cls, deployed):
        """Return a deployment with a managed Caddy."""
        config = MANAGED_CADDY | GREETING | {"domain": DOMAIN}
        with deployed("rehearsal", **config) as deployment:
            yield Ingress(deployment, config)

    def test_the_first_example_runs_while_the_panels_update(
        self, ingress, browser, folder, pictures
    ):
        """The panels show this cluster by default, live through Caddy, login and proxy."""
        with ingress.open_context(browser) as context:
            lab = Lab(context, folder)
            lab.open_example("examples/1-first-steps.ipynb")
            panels = [lab.open_panel(name) for name in ("Workers", "Task Stream")]
            before = [len(frames) for frames in panels]
            for frames, count in zip(panels, before, strict=True):
                until(lab.page, "frame of a panel", lambda f=frames, c=count: len(f) > c)
            prompts = lab.page.locator(".jp-Notebook .jp-CodeCell .jp-InputPrompt")
            ended = re.compile(r"\[\d+\]:")
            for number in range(prompts.count()):
                expect(prompts.nth(number)).to_have_text(ended, timeout=MILLISECONDS)
            assert not lab.page.locator("[data-mime-type='application/vnd.jupyter.error']").count()
            lab.put_beside("1-first-steps", 320, 420)
            lab.page.screenshot(path=pictures / "notebook.png")
            assert [] == lab.refused

    def test_jupyterlab_works_with_its_own_login(self, ingress, browser, folder):
        """Its token is in the address only, and never replaces the basic login."""
        ingress.up(notebookLogin=True)
        with ingress.open_context(browser) as context:
            lab = Lab(context, folder, f"?token={ingress.outputs()['notebook_token']}")
            expect(lab.compute(CELL)).to_contain_text(FOUND, timeout=MILLISECONDS)
            assert [] == lab.refused
        with ingress.open_context(browser) as context:
            page = context.new_page()
            page.goto(f"https://{NAMES['notebook']}/lab")
            assert page.url.startswith(f"https://{NAMES['notebook']}/login")
        ingress.up()


class TestExternal(CommonTests):
    """An existing Caddy, with a stub of Authelia that is as strict."""

    @pytest.fixture(scope="class")
    @classmethod
    def ingress(cls, edge, deployed):
        """Return a deployment that joins the existing Caddy."""
        config = joining(edge) | GREETING
        config |= {"domain": DOMAIN, "autheliaPortal": f"https://portal.{DOMAIN}"}
        with deployed("rehearsal", **config) as deployment:
            yield Ingress(deployment, config)

    def test_a_cell_computes_while_the_dashboard_updates(
        self, ingress, browser, folder, edge, pictures
    ):
        """The websocket of the task stream stays open during a change of the sites."""
        with ingress.open_context(browser) as context:
            dashboard, frames, closed = context.new_page(), [], []
            dashboard.on("websocket", lambda socket: watch(socket, frames, closed))
            dashboard.goto(f"https://{NAMES['dashboard']}/status")
            dashboard.wait_for_selector(".bk-Figure, canvas")
            until(dashboard, "frame of the dashboard", lambda: frames)
            before, lab = len(frames), Lab(context, folder)
            expect(lab.compute(CELL)).to_contain_text(FOUND, timeout=MILLISECONDS)
            until(dashboard, "frame of the task stream", lambda: len(frames) > before)
            dashboard.screenshot(path=pictures / "dashboard.png")

            place = edge / "sites" / "dask-swarm.caddy"
            old = place.stat().st_mtime_ns
            ingress.up(notebookName="lab")
            assert old != place.stat().st_mtime_ns
            count = len(frames)
            until(dashboard, "frame after a reload", lambda: len(frames) > count)
            assert not closed
            ingress.up()

    def test_without_a_login_a_browser_gets_the_portal(self, ingress, browser, pictures):
        """This makes the login's screenshot for the documentation."""
        context = browser.new_context(ignore_https_errors=True)
        log_in_at_portal(context, pictures / "login.png")
        context.close()

    def test_the_page_is_back_after_the_notebooks_task_was_killed(self, ingress, browser, lab):
        """The page loads within 5 s after the new task is healthy."""
        with (
            ingress.open_context(browser) as context,
            closing(docker.DockerClient(lab.docker_host)) as engine,
        ):
            page = context.new_page()
            old = container_of(engine, "dask_notebook")
            old.kill()
            until(page, "new task", lambda: healthy_ids(engine, "dask_notebook") - {old.id})
            start = time.monotonic()
            while page.goto(f"https://{NAMES['notebook']}/lab").status != 200:
                assert time.monotonic() - start < BACK_SECONDS
            assert time.monotonic() - start < BACK_SECONDS
            assert "Jupyter" in page.title()


def watch(socket, frames, closed):
    if re.search(r"/ws(\?|$)", socket.url):
        socket.on("framereceived", lambda _: frames.append(1))
        socket.on("close", lambda _: closed.append(1))
