"""The notebook's login, with stub notebooks."""

from http.server import BaseHTTPRequestHandler

import pytest
from tornado.web import Application, RequestHandler

from health.probe import UnprovenError
from health.probe import notebook as notebook_module
from health.probe.deadline import deadline
from health.probe.messages import Notebook
from health.probe.notebook import compute, wait_for_notebook
from health.probe.session import Session
from tests.conftest import serving
from tests.front.services import JUPYTER_PASSWORD, upstream

TOKEN = "not-a-real-token"


class Jupyter(BaseHTTPRequestHandler):
    """Answers like Jupyter; `open_to_all` and `open_to_any_key` break its login."""

    open_to_all = open_to_any_key = False

    def do_GET(self):
        owner = self.headers["Authorization"] == f"token {TOKEN}"
        by_key = self.open_to_any_key and "Proxy-Authorization" in self.headers
        free = self.path == "/hub/api" or owner or by_key or self.open_to_all
        self.send_response(200 if free else 403)
        self.end_headers()
        self.wfile.write(b'{"version": "2.17.0"}' if free else b"{}")


@pytest.fixture
def notebook(monkeypatch, tmp_path):
    """Return a notebook below a path, with the file of its token."""
    token_file = tmp_path / "token"
    token_file.write_text(f"{TOKEN}\n")
    with serving(Jupyter) as server:
        url = f"http://127.0.0.1:{server.server_port}/hub"
        yield Notebook(url=url, kind="token", secret_file=str(token_file), cell=False)


def test_a_good_notebook_passes(notebook):
    """It answers, refuses requests without a login and accepts its token."""
    wait_for_notebook(notebook)


def test_a_notebook_open_to_all_is_refused(notebook, monkeypatch):
    """The worst case, because everything seems to work."""
    monkeypatch.setattr(Jupyter, "open_to_all", True)
    with pytest.raises(
        UnprovenError, match=r"refuse a request without a login \(403\), found 200"
    ):
        wait_for_notebook(notebook)


def test_a_notebook_open_to_forged_front_keys_is_refused(notebook, monkeypatch):
    """Only Caddy has the key, but every client on the network can send the header."""
    monkeypatch.setattr(Jupyter, "open_to_any_key", True)
    with pytest.raises(UnprovenError, match=r"refuse a forged ingress key \(403\), found 200"):
        wait_for_notebook(notebook)


def test_a_notebook_with_another_token_is_refused(notebook, tmp_path):
    """The message does not contain the token."""
    (tmp_path / "token").write_text("another-token")
    with pytest.raises(UnprovenError, match="accept the notebook's token") as refused:
        wait_for_notebook(notebook)
    assert "another-token" not in str(refused.value)


def test_a_missing_notebook_is_waited_for():
    """It may still be starting; the deadline ends the wait."""
    absent = Notebook(url="http://127.0.0.1:9", kind="token", secret_file="", cell=False)
    with pytest.raises(UnprovenError, match="not proven in time"), deadline(0.3):
        wait_for_notebook(absent)


@pytest.fixture
def kernels(tmp_path, run_application):
    """Return a notebook with a password and stub kernels; tests/swarm has real ones."""
    secret_file = tmp_path / "secret"
    secret_file.write_text(JUPYTER_PASSWORD)
    url = run_application(upstream())
    return Notebook(url=url, kind="password", secret_file=str(secret_file), cell=True)


def test_a_password_opens_the_notebook(kernels, tmp_path):
    """With the form of the login page; a wrong password fails."""
    Session(kernels.url, JUPYTER_PASSWORD)
    with pytest.raises(UnprovenError, match="accept the notebook's token or password") as refused:
        Session(kernels.url, "another password")
    assert "another password" not in str(refused.value)


class LoginPage(RequestHandler):
    """Shows the login again, with the status of success."""

    def get(self):
        self.write("<title>Jupyter Server</title>")

    post = get


def test_a_login_page_is_no_login(run_application):
    """Only a redirect is: the page for a wrong password may have the status of success."""
    url = run_application(Application([("/login", LoginPage)]))
    with pytest.raises(UnprovenError, match=r"token or password \(302\), found 200"):
        Session(url, JUPYTER_PASSWORD)


def test_a_cell_of_the_notebook_computes(kernels):
    """With cookies and the XSRF token, like JupyterLab."""
    compute(kernels, 4)
    with pytest.raises(UnprovenError, match="compute on 5 workers"):
        compute(kernels, 5)


def test_a_notebook_that_goes_away_fails(kernels, monkeypatch):
    """The message has its address."""
    monkeypatch.setattr(notebook_module, "compute_in_notebook", lose)
    with pytest.raises(UnprovenError, match=f"{kernels.url} broke off while it ran a cell: gone"):
        compute(kernels, 4)


def lose(*_):
    raise OSError("gone")


@pytest.mark.parametrize("status", [200, 204, 302, 404, 500])
def test_only_a_refusal_closes_a_notebook(notebook, monkeypatch, status):
    """A redirect, a missing page and an error say nothing about the login."""
    answer = Jupyter.send_response

    def send(handler, code):
        answer(handler, status if code == 403 else code)

    monkeypatch.setattr(Jupyter, "send_response", send)
    with pytest.raises(UnprovenError, match=rf"without a login \(403\), found {status}"):
        wait_for_notebook(notebook)
