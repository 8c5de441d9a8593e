"""What the files of `caddy/` do with requests, in a real Caddy among stand-ins."""

import json
import time
from contextlib import closing
from http.client import IncompleteRead, RemoteDisconnected

import pytest

from caddy.caddyfile import bcrypt_hash, join, login
from tests.front.conftest import BASIC, NAMES, PORTAL, SALT, SESSION, Front, Stand
from tests.front.portal import PASSWORD, USER
from tests.front.services import KEY, TOKEN, upstream

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
    "Remote_User": "root",
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Host": "portal.localhost",
    "X-Forwarded-User": "root",
    "Proxy-Authorization": "forged",
}


def received(text):
    """Return the headers that the upstream was sent, as a list of pairs."""
    found = json.loads(text)
    assert CONTENT == found["content"]
    return found["headers"]


@pytest.mark.parametrize("name", SITES)
@pytest.mark.parametrize("headers", [{}, FORGED], ids=["anonymous", "forged"])
def test_nobody_gets_in_without_a_login(scene, name, headers):
    """Anonymous and forged requests get the portal or a refusal, and nothing of the upstream."""
    status, answer, text = scene.front.ask(name, headers=headers)
    assert CONTENT not in text
    if scene.auth == "basic":
        assert (401, 'Basic realm="restricted"') == (status, answer["WWW-Authenticate"])
    else:
        assert 302 == status
        assert f"{PORTAL}/?rd=https%3A%2F%2F{name}%2Fpage&rm=GET" == answer["Location"]


@pytest.mark.parametrize("name", SITES)
def test_no_websocket_opens_without_a_login(scene, name):
    """A websocket is as protected as a page."""
    wire, status = scene.front.upgrade(name, FORGED)
    wire.close()
    assert (401 if scene.auth == "basic" else 302) == status


@pytest.mark.parametrize("name", SITES)
def test_a_login_opens_page_and_websocket(scene, name):
    """Who is logged in gets the upstream's page and its websocket."""
    status, _, text = scene.front.ask(name, headers=scene.login())
    assert 200 == status
    assert ["Remote-User", USER] in received(text)
    wire, status = scene.front.upgrade(name, scene.login())
    assert 101 == status
    assert b"hello" == echoed(wire, b"hello")
    wire.close()


def echoed(wire, payload):
    """Return what comes back for a masked text frame."""
    wire.sendall(bytes([0x81, 0x80 | len(payload), 0, 0, 0, 0]) + payload)
    return wire.recv(4096)[2:]


def test_forged_identities_are_replaced(scene):
    """The upstream learns from the login who somebody is, never from the client."""
    _, _, text = scene.front.ask(NAMES["notebook"], headers=FORGED | scene.login())
    headers = received(text)
    remote = {name: value for name, value in headers if name.lower().startswith("remote")}
    expected = {"Remote-User": USER}
    if scene.auth == "authelia":
        expected |= {"Remote-Groups": "dev", "Remote-Name": "Ada", "Remote-Email": "a@b"}
    assert expected == remote
    assert ["X-Forwarded-Host", NAMES["notebook"]] in headers


def cookie_of(scene):
    """Return the header that Caddy gives a browser which has sent the password, as it came."""
    _, answer, _ = scene.front.ask(NAMES["notebook"], "/lab", BASIC)
    (cookie,) = [c for c in answer.get_all("Set-Cookie") if c.startswith("dask_swarm_session=")]
    return cookie


@pytest.mark.parametrize("scene", ["basic-cookie"], indirect=True)
class TestCookie:
    """A browser that has sent the password once: Safari's websockets have the cookie only."""

    def test_opens_pages_and_websockets_of_its_name(self, scene):
        """Without the password, under the same user's name, and unseen by the service."""
        headers = {"Cookie": f"a=1; {cookie_of(scene).partition(';')[0]}; b=2"}
        for name in SITES:
            status, answer, text = scene.front.ask(name, headers=FORGED | headers)
            assert (200, None) == (status, answer["Set-Cookie"])
            assert ["Remote-User", USER] in received(text)
            assert ["Cookie", "a=1; b=2"] in received(text)
            wire, status = scene.front.upgrade(name, headers)
            wire.close()
            assert 101 == status

    def test_is_the_browsers_alone(self, scene):
        """Neither scripts of a page nor requests from other sites' pages have it."""
        attributes = cookie_of(scene).split("; ")[1:]
        assert ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"] == attributes
        _, answer, _ = scene.front.ask(NAMES["notebook"], "/lab", BASIC)
        assert ["_xsrf", "dask_swarm_session"] == sorted(
            cookie.partition("=")[0] for cookie in answer.get_all("Set-Cookie")
        )

    @pytest.mark.parametrize(
        "headers", [{}, FORGED, {"Authorization": "Basic eDp5"}], ids=["none", "forged", "wrong"]
    )
    def test_is_given_to_nobody_without_the_password(self, scene, headers):
        """A refusal sets nothing."""
        status, answer, _ = scene.front.ask(NAMES["notebook"], headers=headers)
        assert (401, None) == (status, answer["Set-Cookie"])

    def values(self, scene):
        """Return values that are nearly right, and such as Caddy might fill in."""
        right = cookie_of(scene).partition(";")[0].partition("=")[2]
        known = right.partition(".")[2]
        yield from ("", ".", f".{known}", SESSION, f"{SESSION}.", f"{SESSION}.x", right[:-1])
        yield from (f"{{file.{scene.key_file.parent}/front_session}}.{known}", f"{right}x")
        yield from (f"{{http.vars.dask_swarm_session}}.{known}", f"{right},{right}")

    def test_forged_is_refused(self, scene):
        """The whole value counts, as it is."""
        for value in self.values(scene):
            headers = {"Cookie": f"dask_swarm_session={value}"}
            assert 401 == scene.front.ask(NAMES["notebook"], headers=headers)[0], value

    @pytest.mark.parametrize("content", [None, ""])
    def test_without_its_secret_only_the_password_opens(self, scene, content):
        """A file that is missing or empty makes no cookie good."""
        file = scene.key_file.parent / "front_session"
        values = list(self.values(scene))
        try:
            file.unlink() if content is None else file.write_text(content)
            for value in [*values, *self.values(scene)]:
                headers = {"Cookie": f"dask_swarm_session={value}"}
                assert 401 == scene.front.ask(NAMES["notebook"], headers=headers)[0], value
            assert 200 == scene.front.ask(NAMES["notebook"], headers=BASIC)[0]
        finally:
            file.write_text(SESSION)


def test_a_session_ends_with_the_password(new_scene):
    """Another one is a reload, after which the old cookies are none."""
    scene = new_scene("basic-cookie")
    headers = {"Cookie": cookie_of(scene).partition(";")[0]}
    assert 200 == scene.front.ask(NAMES["notebook"], headers=headers)[0]
    other = {"login.caddy": login(scene.text, bcrypt_hash("another", SALT))}
    scene.front.reload(scene.files | other)
    assert 401 == scene.front.ask(NAMES["notebook"], headers=headers)[0]


def keys(text):
    """Return the front keys that the upstream was sent."""
    return [value for name, value in received(text) if name.lower() == "proxy-authorization"]


def test_the_notebook_is_told_the_front_key(scene):
    """Once, in the place of whatever the client sent; the dashboard has no use for it."""
    for headers in ({}, FORGED):
        _, _, text = scene.front.ask(NAMES["notebook"], headers=headers | scene.login())
        assert [KEY] == keys(text)
    _, _, text = scene.front.ask(NAMES["dashboard"], headers=scene.login())
    assert [] == keys(text)


def test_where_jupyter_asks_for_its_own_login_no_key_passes(new_scene):
    """Neither Caddy's nor a client's."""
    scene = new_scene("basic", key="none")
    for headers in ({}, FORGED):
        _, _, text = scene.front.ask(NAMES["notebook"], headers=headers | scene.login())
        assert [] == keys(text)


@pytest.mark.parametrize("scene", ["authelia", "basic"], indirect=True)
def test_an_existing_caddy_logs_no_key(scene, real_caddy, tmp_path):
    """Its log is not the stack's to filter, and it logs with whatever goes wrong what was sent."""
    ports = {"dask_notebook 8888": scene.upstream.port, "dask_scheduler 8787": scene.upstream.port}
    files = {"Caddyfile": EXISTING, "dask-swarm.caddy": join(scene.fragments)}
    with closing(Front(real_caddy, tmp_path, files, ports)) as front:
        # Whether the headers still come depends on Caddy's version.
        with pytest.raises((IncompleteRead, RemoteDisconnected)):
            front.ask(NAMES["notebook"], "/broken", scene.login())
        logged = front.logged()
    assert "aborting with incomplete response" in logged
    assert KEY not in logged


@pytest.mark.parametrize("scene", ["basic-cookie"], indirect=True)
def test_a_key_that_caddy_cannot_read_opens_nothing(scene):
    """A client's own does not take its place; a line break at the file's end does not count."""
    try:
        for content, sent in ((None, ""), ("", ""), (f"{KEY}\n", KEY)):
            scene.key_file.unlink(missing_ok=True)
            if content is not None:
                scene.key_file.write_text(content)
            for headers in ({}, FORGED):
                _, _, text = scene.front.ask(NAMES["notebook"], headers=headers | scene.login())
                assert [sent] == keys(text)
            opened = scene.front.ask(NAMES["notebook"], "/lab", scene.login())[0]
            assert (200 if sent else 302) == opened
    finally:
        scene.key_file.write_text(KEY)


@pytest.mark.parametrize("scene", ["authelia"], indirect=True)
@pytest.mark.parametrize(
    ("before", "after", "left"),
    [
        ("", "", ""),
        ("_xsrf=2|a|b; ", "", "_xsrf=2|a|b"),
        ("", "; _xsrf=2|a|b", "_xsrf=2|a|b"),
        ("a=1; ", "; my_authelia_session=2; b=3", "a=1; my_authelia_session=2; b=3"),
    ],
)
def test_the_logins_cookie_stays_at_caddy(scene, before, after, left):
    """Whoever runs the upstream cannot act as its users; other cookies pass untouched."""
    cookie = scene.login()["Cookie"]
    headers = {"Cookie": before + cookie + after}
    _, _, text = scene.front.ask(NAMES["notebook"], headers=headers)
    assert [left] == [value for name, value in received(text) if name == "Cookie"] or not left
    assert cookie not in text


def test_a_password_stays_at_caddy(scene):
    """The credentials of a basic login are not the upstream's business."""
    _, _, text = scene.front.ask(NAMES["notebook"], headers=scene.login() | BASIC)
    assert "Basic" not in str(received(text))


@pytest.mark.parametrize("scene", ["authelia"], indirect=True)
@pytest.mark.parametrize("scheme", ["token", "Token"])
def test_a_token_for_jupyter_passes_authelia(scene, scheme):
    """Authelia would refuse its scheme, and Jupyter is still sent it."""
    token = {"Authorization": f"{scheme} {TOKEN}"}
    _, _, text = scene.front.ask(NAMES["notebook"], headers=token | scene.login())
    assert ["Authorization", f"{scheme} {TOKEN}"] in received(text)
    assert 302 == scene.front.ask(NAMES["notebook"], headers=token)[0]


@pytest.mark.parametrize("scene", ["authelia"], indirect=True)
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
def test_authelia_judges_every_other_authorization(scene, authorization, status):
    """A script may log in by its Basic; what opens the portal stays there."""
    headers = {"Authorization": authorization}
    found, _, text = scene.front.ask(NAMES["notebook"], headers=headers)
    assert status == found
    if found == 200:
        assert authorization not in str(received(text))
    status, _, text = scene.front.ask(
        NAMES["notebook"], headers={"Authorization": "Bearer abc"} | scene.login()
    )
    assert 200 == status
    assert "Bearer" not in str(received(text))


@pytest.mark.parametrize("endpoint", ["/api/authz/forward-auth", "/api/verify"])
def test_a_portal_may_be_under_a_path(new_scene, endpoint):
    """As https://example.org/auth: check and login are below it."""
    scene = new_scene("authelia", path="/auth", endpoint=endpoint)
    status, answer, _ = scene.front.ask(NAMES["notebook"])
    assert 302 == status
    assert answer["Location"].startswith(f"{PORTAL}/auth/?rd=https%3A%2F%2Fnotebook")
    assert 200 == scene.front.ask(NAMES["notebook"], headers=scene.login())[0]


@pytest.mark.parametrize("name", SITES)
def test_answers_carry_security_headers(scene, name):
    """Each once, and nothing says which software answers."""
    _, answer, _ = scene.front.ask(name, headers=scene.login())
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


def test_the_dashboard_begins_at_its_status_page(scene):
    """The bare name leads to a page, but only whoever is logged in."""
    status, answer, _ = scene.front.ask(NAMES["dashboard"], "/", scene.login())
    assert (302, "/status") == (status, answer["Location"])
    _, answer, _ = scene.front.ask(NAMES["dashboard"], "/")
    assert "/status" != answer["Location"]


def test_the_log_holds_no_secret(scene):
    """Requests are logged by their path; cookies, headers and queries are not."""
    secrets = {"Referer": "https://x/?token=s3cret", "Sec-WebSocket-Protocol": "v1.token.s3cret"}
    headers = scene.login() | secrets
    scene.front.ask(NAMES["notebook"], "/seen?token=s3cret&next=%2F%3Ftoken%3Ds3cret", headers)
    time.sleep(0.2)
    logged = scene.front.logged()
    assert '"uri":"/seen"' in logged
    for secret in ("s3cret", PASSWORD, *scene.login().values()):
        assert secret not in logged
    assert "authelia_session" not in logged
    assert '"headers"' not in logged


def test_a_login_service_that_is_down_lets_nobody_in(new_scene):
    """Without Authelia even who is logged in gets an error, soon, and nothing of the upstream."""
    scene = new_scene("authelia")
    login = scene.login()
    scene.opened.remove(scene.portal)
    scene.portal.close()
    for headers in ({}, login, FORGED):
        status, answer, text = scene.front.ask(NAMES["notebook"], "/p?token=s3cret", headers)
        assert (502, "2") == (status, answer["Retry-After"])
        assert CONTENT not in text
    assert "s3cret" not in scene.front.logged()


def test_the_legacy_endpoint_leads_to_the_portal(new_scene):
    """Before 4.38 Authelia had to be told where its portal is."""
    scene = new_scene("authelia", endpoint="/api/verify?rd=https://other.localhost")
    status, answer, _ = scene.front.ask(NAMES["notebook"])
    assert 302 == status
    assert answer["Location"].startswith("https://other.localhost/?rd=")
    assert 200 == scene.front.ask(NAMES["notebook"], headers=scene.login())[0]


def test_without_login_the_upstream_is_open_but_not_to_forged_names(new_scene):
    """`auth: none`, for localhost: no login, and still no word of the client's on who it is."""
    scene = new_scene("none")
    status, _, text = scene.front.ask(NAMES["notebook"], headers=FORGED)
    assert 200 == status
    assert not [name for name, _ in received(text) if name.lower().startswith("remote")]


def test_a_websocket_survives_a_reload(scene):
    """A change of the fragments does not cut off a kernel or the dashboard."""
    wire, status = scene.front.upgrade(NAMES["dashboard"], scene.login())
    assert 101 == status
    changed = {"site.caddy": scene.files["site.caddy"].replace("SAMEORIGIN", "DENY")}
    scene.front.reload(scene.files | changed)
    _, answer, _ = scene.front.ask(NAMES["dashboard"], headers=scene.login())
    assert "DENY" == answer["X-Frame-Options"]
    assert b"still here" == echoed(wire, b"still here")
    wire.close()
    scene.front.reload(scene.files)


def test_an_upstream_that_comes_back_is_found_within_5_seconds(new_scene):
    """A request that meets no upstream waits for it instead of failing at once."""
    scene = new_scene("basic")
    scene.opened.remove(scene.upstream)
    port = scene.upstream.port
    scene.upstream.close()
    start = time.monotonic()
    status, _, _ = scene.front.ask(NAMES["notebook"], headers=scene.login())
    assert 502 == status
    assert 4 < time.monotonic() - start < 9
    scene.upstream = Stand(upstream(), port)
    scene.opened.insert(0, scene.upstream)
    assert 200 == scene.front.ask(NAMES["notebook"], headers=scene.login())[0]
