"""The whole thing in a real browser: one login, all that JupyterLab does, the dashboard."""

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
from tests.conftest import ROOT
from tests.front.portal import PASSWORD, USER
from tests.swarm.ingress import MANAGED_CADDY, container_of, healthy, joining

DOMAIN = "dask.localhost"  # under which a browser lets names share a cookie
NAMES = {site: f"{site}.{DOMAIN}" for site in ("notebook", "dashboard")}
BACK_SECONDS = 5
START_SECONDS = 60
PATIENCE = 60_000  # milliseconds; everything shares two CPUs
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


class Front:
    """A deployment behind a login, and how a browser gets past that."""

    def __init__(self, deployment, config):
        self.deployment, self.config = deployment, config

    def up(self, **changes):
        """Deploy with some config changed."""
        self.deployment.configure(**self.config, **changes)
        self.deployment.run("up")

    def outputs(self):
        return self.deployment.runner.outputs(secrets=True)

    @contextmanager
    def visit(self, browser):
        """Yield a browser's context in which somebody has logged in, once."""
        pair = {}
        if self.config.get("auth") == "basic":
            outputs = self.outputs()
            pair = {"username": outputs["login_user"], "password": outputs["login_password"]}
        context = browser.new_context(
            ignore_https_errors=True, viewport={"width": 1280, "height": 800},
            http_credentials=pair or None,
        )  # fmt: skip
        context.set_default_timeout(PATIENCE)
        try:
            if not pair:
                log_in_at_portal(context)
            yield context
        finally:
            context.close()


def log_in_at_portal(context, picture=None):
    """Log in as whoever opens the dashboard first is asked to."""
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
    """Return where screenshots go: `PICTURES=docs/images make test` renews the documentation's."""
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


@pytest.fixture
def folder(front, lab):
    """Return the name of an empty folder in the notebook's home, whatever else is there."""
    name = f"browser-{secrets.token_hex(4)}"
    with closing(docker.DockerClient(lab.docker_host)) as engine:
        in_notebook = lambda *command: container_of(engine, "dask_notebook").exec_run(command)  # noqa: E731
        assert 0 == in_notebook("mkdir", f"{HOME}/{name}").exit_code
        yield name
        in_notebook("rm", "-r", f"{HOME}/{name}")
        in_notebook("sh", "-c", f"rm -f {HOME}/.jupyter/lab/workspaces/{name}-*")


class Lab:
    """JupyterLab's page in a folder, in a workspace of its own, and what was answered to it."""

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
        """Run a cell in a new notebook and return where its output appears."""
        self.page.click('.jp-LauncherCard[data-category="Notebook"] >> nth=0')
        cell = self.page.locator(".jp-Notebook .cm-content").first
        self.page.wait_for_selector("text=/Python 3 .ipykernel. . Idle/")
        cell.fill(source)
        expect(cell).to_contain_text(source.splitlines()[-1], timeout=PATIENCE)
        self.page.keyboard.press("Shift+Enter")
        return self.page.locator(".jp-OutputArea-output", has_text="found").first

    def open_example(self, name):
        """Open an example, and have all its cells run."""
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
        until(self.page, lambda: frames, f"the panel {name}")
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
        """Open a terminal beside what is there."""
        self.page.click(".lm-MenuBar-itemLabel:text-is('File')")
        self.page.hover(".lm-Menu-itemLabel:text-is('New')")
        self.page.click(".lm-Menu-itemLabel:text-is('Terminal')")
        self.page.wait_for_selector(".jp-Terminal-body .xterm-helper-textarea", state="attached")
        until(self.page, lambda: self.shown, "a prompt")

    def type(self, command, awaited):
        """Type a command into the terminal and wait for what it prints."""
        self.page.click(".jp-Terminal-body")
        self.page.keyboard.type(command + "\n")
        until(self.page, lambda: awaited in "".join(self.shown), f"{awaited} of {self.shown}")

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


def until(page, met, what):
    """Wait for something while the browser's events are taken in."""
    deadline = time.monotonic() + START_SECONDS
    while not met():
        assert time.monotonic() < deadline, what
        page.wait_for_timeout(50)


class CommonTests:
    """What both modes and both logins promise."""

    def test_all_of_jupyterlab_works_after_one_login(self, front, browser, folder, tmp_path):
        """A cell, a terminal, a file up and down again; not one request is refused."""
        file = tmp_path / "some.bin"
        file.write_bytes(bytes(range(256)) * 4096)
        with front.visit(browser) as context:
            lab = Lab(context, folder)
            expect(lab.compute(CELL)).to_contain_text(FOUND, timeout=PATIENCE)
            lab.open_terminal()
            lab.type('echo "<$GREETING>"', "<hello>")
            lab.upload(file)
            assert file.read_bytes() == lab.download(file.name)
            assert [] == lab.refused


class TestManaged(CommonTests):
    """The stack's own Caddy, with a basic login."""

    @pytest.fixture(scope="class")
    @classmethod
    def front(cls, deployed):
        """Return a deployment with a Caddy of its own."""
        config = MANAGED_CADDY | GREETING | {"domain": DOMAIN}
        with deployed("rehearsal", **config) as deployment:
            yield Front(deployment, config)

    def test_the_first_example_runs_to_its_end_while_the_panels_move(
        self, front, browser, folder, pictures
    ):
        """The panels are this cluster's, preset, and live through Caddy, login and proxy."""
        with front.visit(browser) as context:
            lab = Lab(context, folder)
            lab.open_example("examples/1-first-steps.ipynb")
            panels = [lab.open_panel(name) for name in ("Workers", "Task Stream")]
            before = [len(frames) for frames in panels]
            for frames, count in zip(panels, before, strict=True):
                until(lab.page, lambda f=frames, c=count: len(f) > c, "a panel to move")
            prompts = lab.page.locator(".jp-Notebook .jp-CodeCell .jp-InputPrompt")
            ended = re.compile(r"\[\d+\]:")
            for number in range(prompts.count()):
                expect(prompts.nth(number)).to_have_text(ended, timeout=PATIENCE)
            assert not lab.page.locator("[data-mime-type='application/vnd.jupyter.error']").count()
            lab.put_beside("1-first-steps", 320, 420)
            lab.page.screenshot(path=pictures / "notebook.png")
            assert [] == lab.refused

    def test_jupyterlab_works_where_it_asks_for_a_login_of_its_own(self, front, browser, folder):
        """Its token is in the address only, and takes the basic login's place nowhere."""
        front.up(notebookLogin=True)
        with front.visit(browser) as context:
            lab = Lab(context, folder, f"?token={front.outputs()['notebook_token']}")
            expect(lab.compute(CELL)).to_contain_text(FOUND, timeout=PATIENCE)
            assert [] == lab.refused
        with front.visit(browser) as context:
            page = context.new_page()
            page.goto(f"https://{NAMES['notebook']}/lab")
            assert page.url.startswith(f"https://{NAMES['notebook']}/login")
        front.up()


class TestExternal(CommonTests):
    """A Caddy that was there before, behind a stand-in for Authelia that is as strict."""

    @pytest.fixture(scope="class")
    @classmethod
    def front(cls, edge, deployed):
        """Return a deployment that joins the existing Caddy."""
        config = joining(edge) | GREETING
        config |= {"domain": DOMAIN, "autheliaPortal": f"https://portal.{DOMAIN}"}
        with deployed("rehearsal", **config) as deployment:
            yield Front(deployment, config)

    def test_a_cell_computes_while_the_dashboard_moves(
        self, front, browser, folder, edge, pictures
    ):
        """The task stream's websocket is live, and stays through a change of the sites."""
        with front.visit(browser) as context:
            dashboard, frames, closed = context.new_page(), [], []
            dashboard.on("websocket", lambda socket: watch(socket, frames, closed))
            dashboard.goto(f"https://{NAMES['dashboard']}/status")
            dashboard.wait_for_selector(".bk-Figure, canvas")
            until(dashboard, lambda: frames, "a frame of the dashboard")
            before, lab = len(frames), Lab(context, folder)
            expect(lab.compute(CELL)).to_contain_text(FOUND, timeout=PATIENCE)
            until(dashboard, lambda: len(frames) > before, "the task stream to move")
            dashboard.screenshot(path=pictures / "dashboard.png")

            place = edge / "sites" / "dask-swarm.caddy"
            old = place.stat().st_mtime_ns
            front.up(notebookName="lab")
            assert old != place.stat().st_mtime_ns
            count = len(frames)
            until(dashboard, lambda: len(frames) > count, "frames after a reload")
            assert not closed
            front.up()

    def test_the_portal_is_what_a_stranger_sees(self, front, browser, pictures):
        """A picture of the login for the README."""
        context = browser.new_context(ignore_https_errors=True)
        log_in_at_portal(context, pictures / "login.png")
        context.close()

    def test_the_page_comes_back_after_the_notebooks_task_was_killed(self, front, browser, lab):
        """Within 5 s of the new task being healthy the page is there again."""
        with (
            front.visit(browser) as context,
            closing(docker.DockerClient(lab.docker_host)) as engine,
        ):
            page = context.new_page()
            old = container_of(engine, "dask_notebook")
            old.kill()
            until(page, lambda: healthy(engine, "dask_notebook", old.id), "a new task")
            start = time.monotonic()
            while page.goto(f"https://{NAMES['notebook']}/lab").status != 200:
                assert time.monotonic() - start < BACK_SECONDS
            assert time.monotonic() - start < BACK_SECONDS
            assert "Jupyter" in page.title()


def watch(socket, frames, closed):
    if re.search(r"/ws(\?|$)", socket.url):
        socket.on("framereceived", lambda _: frames.append(1))
        socket.on("close", lambda _: closed.append(1))
