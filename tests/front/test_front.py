"""How a real Caddy with the files of `caddy/` handles requests, with stub services."""

import json
import time
from contextlib import closing
from http.client import IncompleteRead, RemoteDisconnected

import pytest

from caddy.caddyfile import join, login
from lab.portal import PASSWORD, USER
from tests.front.conftest import BASIC, NAMES, PORTAL, SESSION, CaddyServer, StubServer, quick_hash
from tests.front.services import KEY, PREFECT_KEY, TOKEN, upstream

EXISTING = """{
	admin unix//var/tmp/admin.sock
	local_certs
	skip_install_trust
}

import dask-swarm.caddy
"""
SITES = list(NAMES.values())
CONTENT = "upstream's content"
FORGED = {
    "Remote-User": "root",
    "Remote-Groups": "admins",
    "Remote-Roles": "admins",  # which no login sets
    "Remote_User": "root",
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Host": "portal.localhost",
    "X-Forwarded-User": "root",
    "Proxy-Authorization": "forged",
}


def headers_of(text):
    """Return the headers that the upstream received, as a list of pairs."""
    echo = json.loads(text)
    assert CONTENT == echo["content"]
    return echo["headers"]


@pytest.mark.parametrize("name", SITES)
@pytest.mark.parametrize("headers", [{}, FORGED], ids=["anonymous", "forged"])
def test_no_request_gets_in_without_a_login(ingress, name, headers):
    """Anonymous and forged requests get the portal or a refusal, and no upstream content."""
    status, answer, text = ingress.caddy.ask(name, headers=headers)
    assert CONTENT not in text
    if ingress.auth == "basic":
        assert (401, 'Basic realm="restricted"') == (status, answer["WWW-Authenticate"])
    else:
        assert 302 == status
        assert f"{PORTAL}/?rd=https%3A%2F%2F{name}%2Fpage&rm=GET" == answer["Location"]


@pytest.mark.parametrize("name", SITES)
def test_no_websocket_opens_without_a_login(ingress, name):
    """A websocket is as protected as a page."""
    wire, status = ingress.caddy.upgrade(name, FORGED)
    wire.close()
    assert (401 if ingress.auth == "basic" else 302) == status


@pytest.mark.parametrize("name", SITES)
def test_a_login_opens_page_and_websocket(ingress, name):
    """A logged-in user gets the upstream's page and its websocket."""
    status, _, text = ingress.caddy.ask(name, headers=ingress.login())
    assert 200 == status
    assert ["Remote-User", USER] in headers_of(text)
    wire, status = ingress.caddy.upgrade(name, ingress.login())
    assert 101 == status
    assert b"hello" == echo(wire, b"hello")
    wire.close()


def echo(wire, payload):
    """Send a masked text frame and return the answer."""
    wire.sendall(bytes([0x81, 0x80 | len(payload), 0, 0, 0, 0]) + payload)
    return wire.recv(4096)[2:]


def test_forged_identities_are_replaced(ingress):
    """The upstream gets the user's name from the login, never from the client."""
    _, _, text = ingress.caddy.ask(NAMES["notebook"], headers=FORGED | ingress.login())
    headers = headers_of(text)
    remote = {name: value for name, value in headers if name.lower().startswith("remote")}
    expected = {"Remote-User": USER}
    if ingress.auth == "authelia":
        expected |= {"Remote-Groups": "dev", "Remote-Name": "Ada", "Remote-Email": "a@b"}
    assert expected == remote
    assert ["X-Forwarded-Host", NAMES["notebook"]] in headers


def cookie_of(ingress):
    """Return the `Set-Cookie` header of Caddy's answer to the password."""
    _, answer, _ = ingress.caddy.ask(NAMES["notebook"], "/lab", BASIC)
    (cookie,) = [c for c in answer.get_all("Set-Cookie") if c.startswith("dask_swarm_session=")]
    return cookie


@pytest.mark.parametrize("ingress", ["basic-cookie"], indirect=True)
class TestCookie:
    """After one login by password the cookie is enough, as for Safari's websockets."""

    def test_opens_pages_and_websockets_of_its_name(self, ingress):
        """The cookie replaces the password, has the same user, and does not reach the service."""
        headers = {"Cookie": f"a=1; {cookie_of(ingress).partition(';')[0]}; b=2"}
        for name in SITES:
            status, answer, text = ingress.caddy.ask(name, headers=FORGED | headers)
            assert (200, None) == (status, answer["Set-Cookie"])
            assert ["Remote-User", USER] in headers_of(text)
            assert ["Cookie", "a=1; b=2"] in headers_of(text)
            wire, status = ingress.caddy.upgrade(name, headers)
            wire.close()
            assert 101 == status

    def test_is_for_the_browser_alone(self, ingress):
        """Scripts of a page and requests of other sites cannot use it."""
        attributes = cookie_of(ingress).split("; ")[1:]
        assert ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"] == attributes
        _, answer, _ = ingress.caddy.ask(NAMES["notebook"], "/lab", BASIC)
        assert ["_xsrf", "dask_swarm_session"] == sorted(
            cookie.partition("=")[0] for cookie in answer.get_all("Set-Cookie")
        )

    @pytest.mark.parametrize(
        "headers", [{}, FORGED, {"Authorization": "Basic eDp5"}], ids=["none", "forged", "wrong"]
    )
    def test_is_not_set_without_the_password(self, ingress, headers):
        """A refusal sets no cookie."""
        status, answer, _ = ingress.caddy.ask(NAMES["notebook"], headers=headers)
        assert (401, None) == (status, answer["Set-Cookie"])

    def values(self, ingress):
        """Return values that are nearly right, and placeholders that Caddy might fill in."""
        right = cookie_of(ingress).partition(";")[0].partition("=")[2]
        known = right.partition(".")[2]
        yield from ("", ".", f".{known}", SESSION, f"{SESSION}.", f"{SESSION}.x", right[:-1])
        yield from (f"{{file.{ingress.key_file.parent}/front_session}}.{known}", f"{right}x")
        yield from (f"{{http.vars.dask_swarm_session}}.{known}", f"{right},{right}")

    def test_forged_is_refused(self, ingress):
        """Caddy compares the whole value, literally."""
        for value in self.values(ingress):
            headers = {"Cookie": f"dask_swarm_session={value}"}
            assert 401 == ingress.caddy.ask(NAMES["notebook"], headers=headers)[0], value

    @pytest.mark.parametrize("content", [None, ""])
    def test_without_its_secret_only_the_password_opens(self, ingress, content):
        """With a missing or empty file no cookie is accepted."""
        file = ingress.key_file.parent / "front_session"
        values = list(self.values(ingress))
        try:
            file.unlink() if content is None else file.write_text(content)
            for value in [*values, *self.values(ingress)]:
                headers = {"Cookie": f"dask_swarm_session={value}"}
                assert 401 == ingress.caddy.ask(NAMES["notebook"], headers=headers)[0], value
            assert 200 == ingress.caddy.ask(NAMES["notebook"], headers=BASIC)[0]
        finally:
            file.write_text(SESSION)


def test_a_session_ends_with_the_password(new_ingress):
    """A new password reloads Caddy, which then refuses old cookies."""
    ingress = new_ingress("basic-cookie")
    headers = {"Cookie": cookie_of(ingress).partition(";")[0]}
    assert 200 == ingress.caddy.ask(NAMES["notebook"], headers=headers)[0]
    other = {"login.caddy": login(ingress.text, quick_hash("another"))}
    ingress.caddy.reload(ingress.files | other)
    assert 401 == ingress.caddy.ask(NAMES["notebook"], headers=headers)[0]


def received_keys(text):
    """Return the front keys that the upstream received."""
    return [value for name, value in headers_of(text) if name.lower() == "proxy-authorization"]


@pytest.mark.parametrize(
    ("site", "keys"), [("notebook", [KEY]), ("dashboard", []), ("prefect", [PREFECT_KEY])]
)
def test_each_site_gets_its_own_key(ingress, site, keys):
    """The key replaces the client's header; the dashboard has none."""
    for headers in ({}, FORGED):
        _, _, text = ingress.caddy.ask(NAMES[site], headers=headers | ingress.login())
        assert keys == received_keys(text)


def test_no_key_passes_with_jupyters_own_login(new_ingress):
    """Caddy sends the notebook no key, and drops a client's; Prefect still gets its key."""
    ingress = new_ingress("basic", key="none")
    for headers in ({}, FORGED):
        _, _, text = ingress.caddy.ask(NAMES["notebook"], headers=headers | ingress.login())
        assert [] == received_keys(text)
        assert 200 == ingress.caddy.ask(NAMES["prefect"], "/v2/", headers | ingress.login())[0]


@pytest.mark.parametrize("ingress", ["authelia", "basic"], indirect=True)
def test_an_existing_caddy_logs_no_key(ingress, real_caddy, tmp_path):
    """The stack cannot filter its log, which has the headers of failed requests."""
    ports = {
        "dask_notebook 8888": ingress.upstream.port,
        "dask_scheduler 8787": ingress.upstream.port,
        "dask_prefect 4200": ingress.upstream.port,
    }
    files = {"Caddyfile": EXISTING, "dask-swarm.caddy": join(ingress.fragments)}
    with closing(CaddyServer(real_caddy, tmp_path, files, ports)) as caddy:
        for site in ("notebook", "prefect"):
            # Whether the headers still arrive depends on Caddy's version.
            with pytest.raises((IncompleteRead, RemoteDisconnected)):
                caddy.ask(NAMES[site], "/broken", ingress.login())
        log = caddy.read_log()
    assert 2 == log.count("aborting with incomplete response")
    assert KEY not in log
    assert PREFECT_KEY not in log


@pytest.mark.parametrize("ingress", ["basic-cookie"], indirect=True)
def test_a_key_that_caddy_cannot_read_opens_nothing(ingress):
    """A client's header does not replace it; a line break at the end of the file is ignored."""
    try:
        for content, sent in ((None, ""), ("", ""), (f"{KEY}\n", KEY)):
            ingress.key_file.unlink(missing_ok=True)
            if content is not None:
                ingress.key_file.write_text(content)
            for headers in ({}, FORGED):
                _, _, text = ingress.caddy.ask(
                    NAMES["notebook"], headers=headers | ingress.login()
                )
                assert [sent] == received_keys(text)
            opened = ingress.caddy.ask(NAMES["notebook"], "/lab", ingress.login())[0]
            assert (200 if sent else 302) == opened
    finally:
        ingress.key_file.write_text(KEY)


@pytest.mark.parametrize("ingress", ["authelia"], indirect=True)
@pytest.mark.parametrize(
    ("before", "after", "left"),
    [
        ("", "", ""),
        ("_xsrf=2|a|b; ", "", "_xsrf=2|a|b"),
        ("", "; _xsrf=2|a|b", "_xsrf=2|a|b"),
        ("a=1; ", "; my_authelia_session=2; b=3", "a=1; my_authelia_session=2; b=3"),
    ],
)
def test_the_logins_cookie_stays_at_caddy(ingress, before, after, left):
    """The upstream cannot act as its users; other cookies pass unchanged."""
    cookie = ingress.login()["Cookie"]
    headers = {"Cookie": before + cookie + after}
    _, _, text = ingress.caddy.ask(NAMES["notebook"], headers=headers)
    assert [left] == [value for name, value in headers_of(text) if name == "Cookie"] or not left
    assert cookie not in text


def test_a_password_stays_at_caddy(ingress):
    """The upstream does not get the credentials of a basic login."""
    _, _, text = ingress.caddy.ask(NAMES["notebook"], headers=ingress.login() | BASIC)
    assert "Basic" not in str(headers_of(text))


@pytest.mark.parametrize("ingress", ["authelia"], indirect=True)
@pytest.mark.parametrize("scheme", ["token", "Token"])
def test_a_token_for_jupyter_passes_authelia(ingress, scheme):
    """Caddy hides the token's scheme from Authelia, and passes the token on to Jupyter."""
    token = {"Authorization": f"{scheme} {TOKEN}"}
    _, _, text = ingress.caddy.ask(NAMES["notebook"], headers=token | ingress.login())
    assert ["Authorization", f"{scheme} {TOKEN}"] in headers_of(text)
    assert 302 == ingress.caddy.ask(NAMES["notebook"], headers=token)[0]


@pytest.mark.parametrize("ingress", ["authelia"], indirect=True)
@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (BASIC["Authorization"], 200),
        ("Basic eDp5", 401),
        ("Bearer abc", 302),
        ("Digest abc", 401),
        ("tokens abc", 401),
    ],
)
def test_authelia_checks_every_other_authorization(ingress, authorization, status):
    """A script may log in with Basic; these credentials stay at Authelia."""
    headers = {"Authorization": authorization}
    actual, _, text = ingress.caddy.ask(NAMES["notebook"], headers=headers)
    assert status == actual
    if actual == 200:
        assert authorization not in str(headers_of(text))
    status, _, text = ingress.caddy.ask(
        NAMES["notebook"], headers={"Authorization": "Bearer abc"} | ingress.login()
    )
    assert 200 == status
    assert "Bearer" not in str(headers_of(text))


@pytest.mark.parametrize("endpoint", ["/api/authz/forward-auth", "/api/verify"])
def test_a_portal_may_be_under_a_path(new_ingress, endpoint):
    """Check and login are below the path, as in https://example.org/auth."""
    ingress = new_ingress("authelia", path="/auth", endpoint=endpoint)
    status, answer, _ = ingress.caddy.ask(NAMES["notebook"])
    assert 302 == status
    assert answer["Location"].startswith(f"{PORTAL}/auth/?rd=https%3A%2F%2Fnotebook")
    assert 200 == ingress.caddy.ask(NAMES["notebook"], headers=ingress.login())[0]


@pytest.mark.parametrize("name", SITES)
def test_answers_carry_security_headers(ingress, name):
    """Each header comes once, and no header names the software."""
    _, answer, _ = ingress.caddy.ask(name, headers=ingress.login())
    expected = {
        "Strict-Transport-Security": ["max-age=31536000"],
        "X-Content-Type-Options": ["nosniff"],
        "X-Frame-Options": ["SAMEORIGIN"],
        "Referrer-Policy": ["same-origin"],
        "Server": None,
    }
    assert expected == {key: answer.get_all(key) for key in expected}
    policies = {
        NAMES["dashboard"]: ["frame-ancestors 'self' https://notebook.localhost"],
        NAMES["prefect"]: ["connect-src 'self'"],
    }
    assert policies.get(name) == answer.get_all("Content-Security-Policy")


def test_the_dashboard_begins_at_its_status_page(ingress):
    """The bare name redirects to a page, but only after the login."""
    status, answer, _ = ingress.caddy.ask(NAMES["dashboard"], "/", ingress.login())
    assert (302, "/status") == (status, answer["Location"])
    _, answer, _ = ingress.caddy.ask(NAMES["dashboard"], "/")
    assert "/status" != answer["Location"]


def test_the_log_holds_no_secret(ingress):
    """The log has the paths of requests and errors, but no cookies, headers or queries."""
    secrets = {"Referer": "https://x/?token=s3cret", "Sec-WebSocket-Protocol": "v1.token.s3cret"}
    headers = ingress.login() | secrets
    ingress.caddy.ask(NAMES["notebook"], "/seen?token=s3cret&next=%2F%3Ftoken%3Ds3cret", headers)
    with pytest.raises((IncompleteRead, RemoteDisconnected)):
        ingress.caddy.ask(NAMES["notebook"], "/broken?token=s3cret", headers)
    time.sleep(0.2)
    log = ingress.caddy.read_log()
    assert '"uri":"/seen"' in log
    assert "aborting with incomplete response" in log
    for secret in ("s3cret", PASSWORD, *ingress.login().values()):
        assert secret not in log
    assert "authelia_session" not in log
    assert '"headers"' not in log


def test_no_request_gets_in_while_the_login_service_is_down(new_ingress):
    """Without Authelia a logged-in user too gets an error at once, and no upstream content."""
    ingress = new_ingress("authelia")
    login = ingress.login()
    ingress.opened.remove(ingress.portal)
    ingress.portal.close()
    for headers in ({}, login, FORGED):
        status, answer, text = ingress.caddy.ask(NAMES["notebook"], "/p?token=s3cret", headers)
        assert (502, "2") == (status, answer["Retry-After"])
        assert CONTENT not in text
    assert "s3cret" not in ingress.caddy.read_log()


def test_the_legacy_endpoint_leads_to_the_portal(new_ingress):
    """Authelia before 4.38 needs the portal's address in the request."""
    ingress = new_ingress("authelia", endpoint="/api/verify?rd=https://other.localhost")
    status, answer, _ = ingress.caddy.ask(NAMES["notebook"])
    assert 302 == status
    assert answer["Location"].startswith("https://other.localhost/?rd=")
    assert 200 == ingress.caddy.ask(NAMES["notebook"], headers=ingress.login())[0]


def test_without_a_login_forged_identities_are_still_dropped(new_ingress):
    """With `auth: none` there is no login, but identities of the client are still dropped."""
    ingress = new_ingress("none")
    status, _, text = ingress.caddy.ask(NAMES["notebook"], headers=FORGED)
    assert 200 == status
    assert not [name for name, _ in headers_of(text) if name.lower().startswith("remote")]


def test_a_websocket_survives_a_reload(ingress):
    """A change of the fragments does not disconnect a kernel or the dashboard."""
    wire, status = ingress.caddy.upgrade(NAMES["dashboard"], ingress.login())
    assert 101 == status
    changed = {"site.caddy": ingress.files["site.caddy"].replace("SAMEORIGIN", "DENY")}
    ingress.caddy.reload(ingress.files | changed)
    _, answer, _ = ingress.caddy.ask(NAMES["dashboard"], headers=ingress.login())
    assert "DENY" == answer["X-Frame-Options"]
    assert b"still here" == echo(wire, b"still here")
    wire.close()
    ingress.caddy.reload(ingress.files)


def test_a_restarted_upstream_is_used_within_5_seconds(new_ingress):
    """A request without an upstream waits for it instead of failing at once."""
    ingress = new_ingress("basic")
    ingress.opened.remove(ingress.upstream)
    port = ingress.upstream.port
    ingress.upstream.close()
    start = time.monotonic()
    status, _, _ = ingress.caddy.ask(NAMES["notebook"], headers=ingress.login())
    assert 502 == status
    assert 4 < time.monotonic() - start < 9
    ingress.upstream = StubServer(upstream(), port)
    ingress.opened.insert(0, ingress.upstream)
    assert 200 == ingress.caddy.ask(NAMES["notebook"], headers=ingress.login())[0]
