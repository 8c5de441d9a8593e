"""A stand-in for Authelia: the part of its behaviour that Caddy relies on.

Run as `python portal.py <port> [<address>]`, or `python -c <this file> <port>` in a container.

Observed on Authelia 4.39: the check answers 200 with `Remote-*` headers for a session, sends a
page request without one to the portal (302, `rd` and `rm`), and answers 401 to other requests.
The check reads `Authorization` before the cookie: it accepts Basic, ignores Bearer, and answers
401 to any other scheme, whatever the cookie. The legacy check ignores the header. The login is
`POST /api/firstfactor`, which sets the cookie `authelia_session`.
"""

import asyncio
import base64
import json
import secrets
import sys
from urllib.parse import quote

from tornado.web import Application, RequestHandler

USER, PASSWORD = "ada", "correct horse battery"
PAIR = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
LEGACY = "/api/verify"
CHECKS = ("/api/authz/forward-auth", LEGACY)
PAGE = """<!doctype html><title>Stand-in portal</title><h1>Stand-in for Authelia</h1>
<form method="post"><input name="username" placeholder="user">
<input name="password" type="password" placeholder="password"><button>Sign in</button></form>"""


class Check(RequestHandler):
    """The check that `forward_auth` makes for every request."""

    def get(self) -> None:
        """Check a request by its headers."""
        scheme, _, value = self.request.headers.get("Authorization", "").partition(" ")
        if LEGACY in self.request.path or scheme.lower() in ("", "bearer"):
            self.check_session()
        elif (scheme.lower(), value) == ("basic", PAIR):
            self.let_in()
        else:
            self.set_status(401)

    def let_in(self) -> None:
        """Answer with the user's identity."""
        identity = {"User": USER, "Groups": "dev", "Name": "Ada", "Email": "a@b"}
        for name, value in identity.items():
            self.set_header(f"Remote-{name}", value)

    def check_session(self) -> None:
        """Let a session in, and send all others to the portal."""
        if self.get_cookie("authelia_session") in self.application.settings["state"]["sessions"]:
            self.let_in()
            return
        headers = self.request.headers
        if "text/html" not in headers.get("Accept", "") and "Upgrade" not in headers:
            self.set_status(401)
            return
        host, uri = headers["X-Forwarded-Host"], headers["X-Forwarded-Uri"]
        target = quote(f"https://{host}{uri}", safe="")
        path = self.application.settings["path"]
        portal = self.get_query_argument("rd", f"https://portal.{parent(host)}{path}")
        self.redirect(f"{portal}/?rd={target}&rm={headers['X-Forwarded-Method']}", status=302)


class FirstFactor(RequestHandler):
    """The login, as JSON."""

    def post(self) -> None:
        """Begin a session for the right password."""
        given = json.loads(self.request.body)
        if (given["username"], given["password"]) != (USER, PASSWORD):
            self.set_status(401)
            return
        begin_session(self)
        self.write({"status": "OK"})


class Page(RequestHandler):
    """The portal's page: a form that sends the browser back to where it came from."""

    def get(self) -> None:
        """Show the form."""
        self.write(PAGE)

    def post(self) -> None:
        """Begin a session for the right password, and send the browser back."""
        given = self.get_body_argument("username"), self.get_body_argument("password")
        if given == (USER, PASSWORD):
            begin_session(self)
        self.redirect(self.get_query_argument("rd"))


def begin_session(handler: RequestHandler) -> None:
    """Set the cookie for all names under the portal's domain, if a browser allows that."""
    session = secrets.token_hex(16)
    handler.application.settings["state"]["sessions"].add(session)
    over = parent(handler.request.headers.get("X-Forwarded-Host", ""))
    domain = over if "." in over else None
    handler.set_cookie(
        "authelia_session", session, domain=domain, httponly=True, secure=bool(domain)
    )


def parent(host: str) -> str:
    """Return the domain of a name; the portal is under the same domain."""
    return host.partition(".")[2]


def portal(path: str = "") -> Application:
    """Return the application, which is served under a name of the same domain."""
    pages = [("/api/firstfactor", FirstFactor), ("/", Page)] + [(check, Check) for check in CHECKS]
    handlers = [(path + place, handler) for place, handler in pages]
    return Application(handlers, state={"sessions": set()}, path=path)


async def serve(port: str, address: str = "") -> None:
    """Serve the stand-in until the process is ended."""
    portal().listen(int(port), address)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
