"""Which requests the real JupyterLab accepts, on its own port and behind a real Caddy."""

import asyncio
import json
import socket
from contextlib import closing
from http.client import HTTPConnection

import psutil
import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from health.http_client import UPGRADE
from health.ingress import FORGED
from lab.portal import USER
from tests.conftest import free_port, run_async
from tests.front.conftest import NAMES, Ingress, closing_all
from tests.front.jupyter import SECRETS, Jupyter, find_jupyter
from tests.front.test_proof import proof

HOST = NAMES["notebook"]
KEY = {"Proxy-Authorization": SECRETS["front_key"], "Remote-User": "ada"}
TOKEN = f"token={SECRETS['notebook_token']}"
BY_TOKEN = {"Authorization": f"token {SECRETS['notebook_token']}"}
TERMINAL_SECONDS = 20
PRIVATE = (
    "/lab",
    "/api/me",
    "/api/contents",
    "/api/terminals",
    "/files/x",
    "/lab/api/settings",
    "/careless",
)
SOCKET = "/api/events/subscribe"


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory):
    """Return a running JupyterLab."""
    with closing_all() as opened:
        folder = tmp_path_factory.mktemp("jupyter") / "home"
        opened.append(Jupyter(find_jupyter(), folder, free_port(), SECRETS))
        yield opened[0].wait()


@pytest.fixture(scope="module", params=["authelia", "basic"])
def ingress(request, jupyter, real_caddy, tmp_path_factory):
    """Return an ingress with the real JupyterLab and each kind of login."""
    with closing_all() as opened:
        folder = tmp_path_factory.mktemp(request.param)
        yield Ingress(opened, real_caddy, folder, request.param, notebook=jupyter.port)


class TestOnItsOwnPort:
    """Requests of any container on its networks."""

    @pytest.mark.parametrize("path", [*PRIVATE, SOCKET])
    @pytest.mark.parametrize(
        "headers",
        [
            *({}, FORGED, {"Proxy-Authorization": ""}, {"Proxy-Authorization": "a, front-key"}),
            *({"Authorization": "token wrong"}, {"Authorization": "token "}),
            *({"Authorization": "Basic eDp5"}, {"Proxy-Authorization": SECRETS["notebook_token"]}),
        ],
        ids=str,
    )
    def test_no_stranger_gets_in(self, jupyter, path, headers):
        """A missing, wrong, empty or foreign key is refused."""
        assert jupyter.ask(path, headers) in (302, 401, 403)

    @pytest.mark.parametrize("path", [*PRIVATE[:4], "/careless"])
    @pytest.mark.parametrize("headers", [KEY, BY_TOKEN], ids=["key", "token"])
    def test_key_and_token_open_it(self, jupyter, path, headers):
        """Either is enough."""
        assert 200 == jupyter.ask(path, headers)

    def test_a_key_does_not_make_other_sites_requests_good(self, jupyter):
        """Browsers send a basic login from any page; only a token proves the origin."""
        evil = {"Origin": "https://evil.example"}
        assert 403 == jupyter.ask("/api/terminals", KEY, "POST")
        assert jupyter.ask("/api/terminals", KEY | evil, "POST") in (403, 404)
        assert 403 == jupyter.ask(SOCKET, KEY | evil | UPGRADE)
        assert 101 == jupyter.ask(SOCKET, KEY | UPGRADE)
        assert 200 == jupyter.ask(f"/api/terminals?{TOKEN}", KEY, "POST")

    def test_a_terminal_has_the_stacks_environment(self, jupyter):
        """Terminals and kernels inherit the variables of the Swarm secret from the server."""
        assert 200 == jupyter.ask("/api/terminals", BY_TOKEN, "POST")
        assert "<hello>" in run_async(run_in_terminal(jupyter, 'echo "<$GREETING>"', "<hello>"))


async def run_in_terminal(jupyter, command, expected):
    """Run a command in a terminal and return the output, once it has the expected text."""
    address = f"ws://127.0.0.1:{jupyter.port}/terminals/websocket/1"
    wire = await websocket_connect(HTTPRequest(address, headers=KEY))
    await wire.write_message(json.dumps(["stdin", f"{command}\r"]))
    shown = ""
    async with asyncio.timeout(TERMINAL_SECONDS):
        while expected not in shown:
            kind, *text = json.loads(await wire.read_message())
            shown += text[0] if kind == "stdout" else ""
    wire.close()
    return shown


class TestBehindALogin:
    """Requests of a user who has logged in at the ingress."""

    def test_the_login_of_the_ingress_is_enough(self, ingress):
        """Page, websocket and JupyterLab's API open; the page contains no token."""
        status, _, page = ingress.caddy.ask(HOST, "/lab", ingress.login())
        assert (200, True) == (status, '"token": ""' in page)
        assert SECRETS["notebook_token"] not in page
        for path in PRIVATE[1:4]:
            assert 200 == ingress.caddy.ask(HOST, path, ingress.login())[0]
        wire, status = ingress.caddy.upgrade(HOST, ingress.login(), SOCKET)
        wire.close()
        assert 101 == status

    def test_the_user_is_the_logins(self, ingress):
        """Jupyter gets the user's name from the login, not from the client."""
        forged = {"Remote-User": "root", "Proxy-Authorization": "forged"}
        _, _, text = ingress.caddy.ask(HOST, "/api/me", forged | ingress.login())
        assert USER == json.loads(text)["identity"]["username"]

    def test_a_script_needs_a_token_to_change_something(self, ingress):
        """The login is enough to read; a token without the login is not."""
        read = {"Accept": "application/json"}
        assert 200 == ingress.caddy.ask(HOST, "/api/status", read | ingress.login())[0]
        assert 401 == ingress.caddy.ask(HOST, f"/api/status?{TOKEN}", read)[0]
        assert 403 == ingress.caddy.ask(HOST, "/api/terminals", ingress.login(), "POST")[0]
        by_query = ingress.caddy.ask(HOST, f"/api/terminals?{TOKEN}", ingress.login(), "POST")
        assert 200 == by_query[0]

    @pytest.mark.parametrize("ingress", ["authelia"], indirect=True)
    def test_behind_authelia_a_token_may_be_in_a_header(self, ingress):
        """The session is in a cookie; a basic login would need the same header."""
        headers = BY_TOKEN | ingress.login()
        assert 200 == ingress.caddy.ask(HOST, "/api/terminals", headers, "POST")[0]

    def test_the_ingress_is_proven(self, ingress):
        """The proof sends the requests of JupyterLab."""
        proven = proof(ingress, deadline_seconds=10)
        assert ingress.auth == proven["auth"]
        assert ingress.auth != "basic" or 200 == proven["notebook"]["login"]


def test_jupyters_own_login_is_needed_with_notebook_login(jupyter, real_caddy, tmp_path):
    """Behind the login of the ingress, the token opens a session with a cookie."""
    with closing_all() as opened:
        ingress = Ingress(opened, real_caddy, tmp_path, "basic", key="none", notebook=jupyter.port)
        login = ingress.login()
        assert 302 == ingress.caddy.ask(HOST, "/lab", KEY | login)[0]
        status, answer, page = ingress.caddy.ask(HOST, f"/lab?{TOKEN}", login)
        assert (200, True) == (status, '"token": ""' in page)
        cookies = [cookie.partition(";")[0] for cookie in answer.get_all("Set-Cookie")]
        session = login | {"Cookie": "; ".join(cookies)}
        assert 200 == ingress.caddy.ask(HOST, "/api/contents", session)[0]
        proven = proof(ingress, notebook_token=SECRETS["notebook_token"], deadline_seconds=10)
    assert {"login": 200, "websocket": 101}.items() <= proven["notebook"].items()


@pytest.mark.parametrize(
    ("cluster_network", "listens"), [("0.0.0.0/0", False), ("198.51.100.0/24", True)]
)
def test_it_does_not_listen_on_the_clusters_network(tmp_path, cluster_network, listens):
    """Tasks cannot connect, while Caddy's network and the health check can."""
    with closing_all() as opened:
        port = free_port()
        jupyter = Jupyter(find_jupyter(), tmp_path / "home", port, SECRETS, cluster_network)
        opened.append(jupyter)
        jupyter.wait()
        # A machine may have no other addresses; tests/swarm/test_tls.py tries it in containers.
        others = outer_addresses()
        assert [listens] * len(others) == [accepts(address, port) for address in others]


def outer_addresses():
    """Return this machine's addresses but the loopback's."""
    parts = [part for parts in psutil.net_if_addrs().values() for part in parts]
    found = [part.address for part in parts if part.family == socket.AF_INET]
    return [address for address in found if not address.startswith("127.")]


def accepts(address, port):
    """Return whether a port accepts connections."""
    with closing(socket.socket()) as client:
        return client.connect_ex((address, port)) == 0


@pytest.mark.parametrize("missing", ["notebook_token", "front_key", "dask_environment"])
def test_a_missing_secret_opens_nothing(missing, tmp_path):
    """Without a secret no key, token or empty password is accepted."""
    secrets = {name: text for name, text in SECRETS.items() if name != missing}
    with closing_all() as opened:
        opened.append(Jupyter(find_jupyter(), tmp_path / "home", free_port(), secrets))
        jupyter = opened[0].wait()
        for headers in ({}, FORGED, {"Proxy-Authorization": ""}, {"Authorization": "token "}):
            assert 403 == jupyter.ask("/api/status", headers)
        opened_by_key = jupyter.ask("/api/status", KEY)
        assert (403 if missing == "front_key" else 200) == opened_by_key


def test_a_new_token_ends_sessions(tmp_path):
    """A restart with the same token does not."""
    port, cookie, statuses = free_port(), "", []
    for token in ("jupyter-token", "jupyter-token", "another"):
        with closing_all() as opened:
            secrets = SECRETS | {"notebook_token": token}
            opened.append(Jupyter(find_jupyter(), tmp_path / "home", port, secrets))
            jupyter = opened[0].wait()
            cookie = cookie or session_of(jupyter, token)
            statuses.append(jupyter.ask("/api/status", {"Cookie": cookie}))
    assert [200, 200, 403] == statuses


def session_of(jupyter, token):
    """Return the cookies of a session that a token has opened."""
    with closing(HTTPConnection("127.0.0.1", jupyter.port, timeout=15)) as connection:
        connection.request("GET", "/lab", headers={"Authorization": f"token {token}"})
        with connection.getresponse() as answer:
            cookies = answer.headers.get_all("Set-Cookie", [])
    return "; ".join(cookie.partition(";")[0] for cookie in cookies)
