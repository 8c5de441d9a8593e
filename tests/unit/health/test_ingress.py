"""Every check of the ingress proof, with an ingress that is good but for one answer."""

import json
from dataclasses import dataclass

import pytest

from health import ingress
from health.http_client import Response
from health.ingress import (
    FORGED,
    PAGES,
    SOCKETS,
    IngressProof,
    IngressRequest,
    UnauthenticatedAccessError,
    prove,
)
from health.jupyterlab import FIRST_REQUESTS
from swarm import UnfitError
from swarm.progress import Progress

PORTAL = "https://auth.example.org"
NAMES = {site: f"{site}.example.org" for site in PAGES}
OWN_PAGES = {
    "notebook": '<script id="jupyter-config-data">{}</script>',
    "dashboard": "<title>Dask: Status</title>",
    "prefect": "<title>Prefect Server</title>",
}
SITES = pytest.mark.parametrize("site", PAGES)
LOGINS = pytest.mark.parametrize("auth", ["authelia", "basic"])


def answer(status, text="", location=""):
    return Response(status=status, location=location, cookies={}, text=text)


REFUSALS = {"authelia": answer(302, location=f"{PORTAL}/?rd=x"), "basic": answer(401)}


@dataclass
class Door:
    """A client of a good ingress; `changed` is request to another answer."""

    auth: str
    changed: dict

    def __post_init__(self):
        self.cookies = {}

    def _answer(self, kind, host, path, headers, good):
        site = host.partition(".")[0]
        logged_in = {"Authorization", "Cookie"} & headers.keys() or self.auth == "none"
        who = (
            "user" if logged_in else "forged" if FORGED.items() <= headers.items() else "anonymous"
        )
        refusal = (
            answer(302, location=f"{PORTAL}/?rd=x") if self.auth == "authelia" else answer(401)
        )
        return self.changed.get((who, kind, site), good if logged_in else refusal)

    def get(self, host, path, headers):
        page = OWN_PAGES[host.partition(".")[0]]
        return self._answer("page", host, path, headers, answer(200, page))

    def upgrade(self, host, path, headers):
        assert path == SOCKETS[host.partition(".")[0]]
        return self._answer("websocket", host, path, headers, answer(101))

    def fetch(self, method, host, path, headers, body=""):
        return self.changed.get(path, answer(200))

    def post(self, host, path, headers, body):
        assert ("auth.example.org", "/api/firstfactor") == (host, path)
        assert {"Content-Type": "application/json"} == headers
        login = {"username": "probe", "password": "correct horse", "keepMeLoggedIn": False}
        assert login == json.loads(body)
        cookie = Response(status=200, location="", cookies={"session": "1"}, text="")
        return self.changed.get("login", cookie)


def request(auth, **changed):
    fields = {
        "deadline_seconds": 0,
        "names": NAMES,
        "addresses": [],
        "workers": 0,
        "verified": True,
        "auth": auth,
        "portal": PORTAL if auth == "authelia" else "",
        "user": "probe",
        "password": "correct horse",
        "notebook_token": "",
        "notebook_password": "",
    }
    return IngressRequest.parse(json.dumps(fields | changed))


@pytest.fixture
def proof(monkeypatch):
    """Return a function that proves an ingress with changed answers."""

    def run(auth, changed=(), **fields):
        monkeypatch.setattr(ingress, "client_of", lambda _: Door(auth, dict(changed)))
        return IngressProof(request(auth, **fields)).result()

    return run


@LOGINS
def test_a_good_ingress_is_proven(proof, auth):
    """All sites, without and with a login."""
    proven = proof(auth)
    for site in PAGES:
        assert {"login": 200, "websocket": 101}.items() <= proven[site].items()
    assert proven["login_tried"]


@SITES
@LOGINS
@pytest.mark.parametrize("who", ["anonymous", "forged"])
@pytest.mark.parametrize(
    ("kind", "status", "is_own"),
    [("page", 200, False), ("page", 403, True), ("websocket", 101, False)],
)
def test_one_open_door_is_found(proof, site, auth, who, kind, status, is_own):
    """A single page or websocket that needs no login, or accepts forged headers."""
    message = f"the ingress is open: the {who} (request|{kind}) to https://{site}.example.org"
    changed = {(who, kind, site): answer(status, OWN_PAGES[site] if is_own else "")}
    with pytest.raises(UnauthenticatedAccessError, match=message):
        proof(auth, changed)


@pytest.mark.parametrize("location", ["/login?next=x", "https://notebook.example.org/login"])
def test_jupyters_own_login_is_not_that_of_the_ingress(proof, location):
    """The request has passed the ingress."""
    changed = {("anonymous", "page", "notebook"): answer(302, location=location)}
    with pytest.raises(UnauthenticatedAccessError, match="was answered 302 without a login"):
        proof("authelia", changed)


@pytest.mark.parametrize(
    "location",
    [
        "https://auth.example.org.evil.org/",
        "https://auth.example.org:8443/",
        "http://auth.example.org/",
        "https://other.example.org/?https://auth.example.org",
    ],
)
def test_only_the_portal_itself_is_a_login(proof, location):
    """A name that begins like the portal's may belong to anyone."""
    changed = {("anonymous", "page", "dashboard"): answer(302, location=location)}
    with pytest.raises(UnfitError, match=f"expected the portal {PORTAL}, found"):
        proof("authelia", changed)


@LOGINS
@pytest.mark.parametrize("status", [204, 403, 404, 500, 502])
def test_only_the_answer_of_a_login_is_a_refusal(proof, auth, status):
    """A missing page, or an error, says nothing about the login."""
    changed = {("anonymous", "websocket", "dashboard"): answer(status)}
    with pytest.raises(UnfitError, match=rf"expected \S.*, found {status}"):
        proof(auth, changed)


@SITES
@pytest.mark.parametrize(
    "page", [answer(200, "<title>Login</title>"), answer(404), answer(302, location=PORTAL)]
)
def test_a_login_must_lead_to_the_service_itself(proof, site, page):
    """Another page with the status of success is not the service."""
    with pytest.raises(UnfitError, match=f"{site}.example.org/.* with a login: expected"):
        proof("basic", {("user", "page", site): page})


@SITES
@pytest.mark.parametrize("status", [200, 302, 400, 403, 502])
def test_a_login_must_open_the_websocket(proof, site, status):
    """Without it notebooks run no cells, and the dashboard stays empty."""
    message = f"its websocket was answered {status} instead of 101"
    with pytest.raises(UnfitError, match=message):
        proof("basic", {("user", "websocket", site): answer(status)})


@pytest.mark.parametrize("path", FIRST_REQUESTS)
@pytest.mark.parametrize("status", [302, 401, 403, 404])
def test_each_request_of_jupyterlabs_page_must_pass(proof, path, status):
    """Otherwise JupyterLab opens and does not work."""
    with pytest.raises(UnfitError, match=f"{path} with a login: expected 200, found {status}"):
        proof("basic", {path: answer(status)})


@pytest.mark.parametrize("login", [answer(401), answer(200)])
def test_the_portal_must_accept_its_user(proof, login):
    """With the status of success and a cookie."""
    with pytest.raises(UnfitError, match=f"the login at {PORTAL} was answered"):
        proof("authelia", {"login": login})


def test_without_an_account_only_strangers_are_tried(proof):
    """The proof says so."""
    proven = proof("authelia", user="", password="")
    assert not proven["login_tried"]
    assert {302} == {proven[site]["anonymous"] for site in PAGES}
    assert "login" not in proven["notebook"]


def test_without_a_login_every_service_must_answer(proof):
    """Nobody is refused under localhost."""
    assert "anonymous" not in proof("none", password="")["notebook"]
    with pytest.raises(UnfitError, match="expected Dask's dashboard, found 502"):
        proof("none", {("user", "page", "dashboard"): answer(502)})


def test_an_open_door_is_not_waited_for(monkeypatch):
    """Everything else may still be starting, until the deadline."""
    attempts = []

    class Attempt:
        def __init__(self, _):
            attempts.append(self)

        def result(self):
            raise UnauthenticatedAccessError("open") if late else UnfitError("starting")

    monkeypatch.setattr(ingress, "IngressProof", Attempt)
    monkeypatch.setattr(ingress, "PAUSE_SECONDS", 0.05)
    late = True
    with pytest.raises(UnauthenticatedAccessError, match=r"^open$"):
        prove(request("basic", deadline_seconds=60), Progress())
    assert 1 == len(attempts)
    late = False
    with pytest.raises(UnfitError, match=r"not proven within 0\.2 s: starting"):
        prove(request("basic", deadline_seconds=0.2), Progress())
    assert len(attempts) > 2
