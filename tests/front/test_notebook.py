"""Whom the real JupyterLab lets in, on its own port and behind a real Caddy."""

import asyncio
import json

import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from health.http_client import UPGRADE
from health.ingress import FORGED
from tests.conftest import run_async
from tests.front.conftest import NAMES, Scene, closing_all, free_port
from tests.front.jupyter import SECRETS, Jupyter, find_jupyter
from tests.front.portal import USER
from tests.front.test_proof import proof

HOST = NAMES["notebook"]
KEY = {"Proxy-Authorization": SECRETS["front_key"], "Remote-User": "ada"}
TOKEN = f"token={SECRETS['notebook_token']}"
BY_TOKEN = {"Authorization": f"token {SECRETS['notebook_token']}"}
TERMINAL_SECONDS = 20
PRIVATE = ("/lab", "/api/me", "/api/contents", "/api/terminals", "/files/x", "/lab/api/settings")
SOCKET = "/api/events/subscribe"


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory):
    """Return a running JupyterLab."""
    with closing_all() as opened:
        folder = tmp_path_factory.mktemp("jupyter") / "home"
        opened.append(Jupyter(find_jupyter(), folder, free_port(), SECRETS))
        yield opened[0].wait()


@pytest.fixture(scope="module", params=["authelia", "basic"])
def scene(request, jupyter, real_caddy, tmp_path_factory):
    """Return a front before the real JupyterLab with each kind of login."""
    with closing_all() as opened:
        folder = tmp_path_factory.mktemp(request.param)
        yield Scene(opened, real_caddy, folder, request.param, notebook=jupyter.port)


class TestOnItsOwnPort:
    """As any container on its networks finds it."""

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
        """Neither without a key nor with a wrong, an empty or another one."""
        assert jupyter.ask(path, headers) in (302, 401, 403)

    @pytest.mark.parametrize("path", PRIVATE[:4])
    @pytest.mark.parametrize("headers", [KEY, BY_TOKEN], ids=["key", "token"])
    def test_key_and_token_open_it(self, jupyter, path, headers):
        """Each by itself."""
        assert 200 == jupyter.ask(path, headers)

    def test_a_key_does_not_make_other_sites_requests_good(self, jupyter):
        """Browsers send a basic login with whatever page asks; only a token says who made it."""
        evil = {"Origin": "https://evil.example"}
        assert 403 == jupyter.ask("/api/terminals", KEY, "POST")
        assert jupyter.ask("/api/terminals", KEY | evil, "POST") in (403, 404)
        assert 403 == jupyter.ask(SOCKET, KEY | evil | UPGRADE)
        assert 101 == jupyter.ask(SOCKET, KEY | UPGRADE)
        assert 200 == jupyter.ask(f"/api/terminals?{TOKEN}", KEY, "POST")

    def test_the_environment_of_work_is_there_in_a_terminal(self, jupyter):
        """It comes from a Swarm secret; terminals and kernels inherit what the server has."""
        assert 200 == jupyter.ask("/api/terminals", BY_TOKEN, "POST")
        assert "<hello>" in run_async(typed(jupyter, 'echo "<$GREETING>"', "<hello>"))


async def typed(jupyter, command, awaited):
    """Return what a terminal shows after a command, once what is awaited is there."""
    address = f"ws://127.0.0.1:{jupyter.port}/terminals/websocket/1"
    wire = await websocket_connect(HTTPRequest(address, headers=KEY))
    await wire.write_message(json.dumps(["stdin", f"{command}\r"]))
    shown = ""
    async with asyncio.timeout(TERMINAL_SECONDS):
        while awaited not in shown:
            kind, *text = json.loads(await wire.read_message())
            shown += text[0] if kind == "stdout" else ""
    wire.close()
    return shown


class TestBehindALogin:
    """As a visitor finds it who has logged in in front."""

    def test_the_login_in_front_is_enough(self, scene):
        """Page, websocket and what JupyterLab asks for; the page holds no token."""
        status, _, page = scene.front.ask(HOST, "/lab", scene.login())
        assert (200, True) == (status, '"token": ""' in page)
        assert SECRETS["notebook_token"] not in page
        for path in PRIVATE[1:4]:
            assert 200 == scene.front.ask(HOST, path, scene.login())[0]
        wire, status = scene.front.upgrade(HOST, scene.login(), SOCKET)
        wire.close()
        assert 101 == status

    def test_the_user_is_the_logins(self, scene):
        """Jupyter is told who has logged in, and believes no client."""
        forged = {"Remote-User": "root", "Proxy-Authorization": "forged"}
        _, _, text = scene.front.ask(HOST, "/api/me", forged | scene.login())
        assert USER == json.loads(text)["identity"]["username"]

    def test_a_script_needs_a_token_to_change_something(self, scene):
        """To read the login is enough, and so is neither without the other."""
        read = {"Accept": "application/json"}
        assert 200 == scene.front.ask(HOST, "/api/status", read | scene.login())[0]
        assert 401 == scene.front.ask(HOST, f"/api/status?{TOKEN}", read)[0]
        assert 403 == scene.front.ask(HOST, "/api/terminals", scene.login(), "POST")[0]
        by_query = scene.front.ask(HOST, f"/api/terminals?{TOKEN}", scene.login(), "POST")
        assert 200 == by_query[0]

    @pytest.mark.parametrize("scene", ["authelia"], indirect=True)
    def test_behind_authelia_a_token_may_be_a_header(self, scene):
        """With the session's cookie; a basic login takes that header for itself."""
        headers = BY_TOKEN | scene.login()
        assert 200 == scene.front.ask(HOST, "/api/terminals", headers, "POST")[0]

    def test_the_proof_holds(self, scene):
        """It does what JupyterLab does."""
        found = proof(scene, deadline_seconds=10)
        assert scene.auth == found["auth"]
        assert scene.auth != "basic" or 200 == found["notebook"]["login"]


def test_jupyters_own_login_is_needed_where_it_is_asked_for(jupyter, real_caddy, tmp_path):
    """Behind the one in front, by the token; its cookie carries the session from then on."""
    with closing_all() as opened:
        scene = Scene(opened, real_caddy, tmp_path, "basic", key="none", notebook=jupyter.port)
        login = scene.login()
        assert 302 == scene.front.ask(HOST, "/lab", KEY | login)[0]
        status, answer, page = scene.front.ask(HOST, f"/lab?{TOKEN}", login)
        assert (200, True) == (status, '"token": ""' in page)
        cookies = [each.partition(";")[0] for each in answer.get_all("Set-Cookie")]
        session = login | {"Cookie": "; ".join(cookies)}
        assert 200 == scene.front.ask(HOST, "/api/contents", session)[0]
        found = proof(scene, notebook_token=SECRETS["notebook_token"], deadline_seconds=10)
    assert {"login": 200, "websocket": 101}.items() <= found["notebook"].items()


@pytest.mark.parametrize("missing", ["notebook_token", "front_key", "dask_environment"])
def test_a_secret_that_is_missing_opens_nothing(missing, tmp_path):
    """Neither key nor token is guessed, an empty password included."""
    secrets = {name: text for name, text in SECRETS.items() if name != missing}
    with closing_all() as opened:
        opened.append(Jupyter(find_jupyter(), tmp_path / "home", free_port(), secrets))
        jupyter = opened[0].wait()
        for headers in ({}, FORGED, {"Proxy-Authorization": ""}, {"Authorization": "token "}):
            assert 403 == jupyter.ask("/api/status", headers)
        opened_by_key = jupyter.ask("/api/status", KEY)
        assert (403 if missing == "front_key" else 200) == opened_by_key
