"""A stand-in for Authelia, for tests only: it plays the contract that Caddy relies on, no more.

Observed on Authelia 4.39: the check answers 200 with `Remote-*` headers for a session, sends a
page request without one to the portal (302, `rd` and `rm`), and answers 401 to other requests.
The login is `POST /api/firstfactor`, which sets the cookie `authelia_session`.
"""

import json
import secrets
from urllib.parse import quote

from tornado.web import Application, RequestHandler

USER, PASSWORD = "ada", "correct horse battery"
CHECKS = ("/api/authz/forward-auth", "/api/verify")
PAGE = """<!doctype html><title>Stand-in portal</title><h1>Stand-in for Authelia</h1>
<form method="post"><input name="username" placeholder="user">
<input name="password" type="password" placeholder="password"><button>Sign in</button></form>"""


class Check(RequestHandler):
    """What `forward_auth` asks about every request."""

    def get(self):
        state = self.application.settings["state"]
        if self.get_cookie("authelia_session") in state["sessions"]:
            for name, value in (
                ("User", USER),
                ("Groups", "dev"),
                ("Name", "Ada"),
                ("Email", "a@b"),
            ):
                self.set_header(f"Remote-{name}", value)
            return
        headers = self.request.headers
        if "text/html" not in headers.get("Accept", "") and "Upgrade" not in headers:
            self.set_status(401)
            return
        host, uri = headers["X-Forwarded-Host"], headers["X-Forwarded-Uri"]
        target = quote(f"https://{host}{uri}", safe="")
        portal = self.get_query_argument("rd", f"https://portal.{parent(host)}")
        self.redirect(f"{portal}/?rd={target}&rm={headers['X-Forwarded-Method']}", status=302)


class FirstFactor(RequestHandler):
    """The login, as JSON."""

    def post(self):
        given = json.loads(self.request.body)
        if (given["username"], given["password"]) != (USER, PASSWORD):
            self.set_status(401)
            return
        begin_session(self)
        self.write({"status": "OK"})


class Page(RequestHandler):
    """The portal itself, for a browser: a form, and back to where somebody came from."""

    def get(self):
        self.write(PAGE)

    def post(self):
        given = self.get_body_argument("username"), self.get_body_argument("password")
        if given == (USER, PASSWORD):
            begin_session(self)
        self.redirect(self.get_query_argument("rd"))


def begin_session(handler):
    """Set the cookie for all names under the portal's domain, where a browser allows that."""
    session = secrets.token_hex(16)
    handler.application.settings["state"]["sessions"].add(session)
    over = parent(handler.request.headers.get("X-Forwarded-Host", ""))
    scope = {"domain": over} if "." in over else {}
    handler.set_cookie("authelia_session", session, httponly=True, secure=bool(scope), **scope)


def parent(host):
    """Return the domain that a name is in, for which the portal has a name too."""
    return host.partition(".")[2]


def portal():
    """Return the stand-in as an application; it has a name beside those that it protects."""
    state = {"sessions": set()}
    checks = [(check, Check) for check in CHECKS]
    return Application([*checks, ("/api/firstfactor", FirstFactor), ("/", Page)], state=state)
