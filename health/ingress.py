"""The proof of the front, from outside the cluster: nobody gets in without a login, a login does.

Run as `python -m health.ingress < request.json > proof.json` where Pulumi runs. The request is one
JSON object (`Request`) and may hold credentials: nothing of it is printed. For every name it tries

    anonymous    a page and a websocket without a login, and with forged headers of identity:
                 the login's answer (302 to the portal, or 401) and nothing of the service
    login        with valid credentials, where there are any: the service's own page, its websocket
                 opens, JupyterLab gets what it asks for once its page is there, and a cell of the
                 notebook computes on all workers

An answer that is merely missing is waited for until the deadline; an open door fails at once.
"""

import base64
import json
import re
import socket
import ssl
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlencode, urlsplit

from health.probe.kernel import CellError, WebSocket, compute_in_notebook
from swarm import UnfitError
from swarm.progress import Progress

ANSWER_SECONDS = 15
PAUSE_SECONDS = 0.5
FORGED = {
    "Remote-User": "admin",
    "Remote-Groups": "admins",
    "Remote-Name": "admin",
    "Remote-Email": "admin@localhost",
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-User": "admin",
    "X-Real-Ip": "127.0.0.1",
    "Proxy-Authorization": "forged",
}
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(b"dask-swarm-proof").decode(),
}
# What the services' own pages hold, and no login's.
MARKS = {
    "notebook": re.compile(r"jupyter-config-data|<title>\s*Jupyter"),
    "dashboard": re.compile(r"bokeh|<title>\s*Dask", re.IGNORECASE),
    "prefect": re.compile(r"<title>\s*Prefect"),
}
TITLES = {"notebook": "JupyterLab", "dashboard": "Dask's dashboard", "prefect": "Prefect's page"}
PAGES = {"notebook": "/lab", "dashboard": "/status", "prefect": "/v2/"}
SOCKETS = {
    "notebook": "/api/events/subscribe",
    "dashboard": "/status/ws",
    "prefect": "/api/events/out",
}
# What JupyterLab asks for as soon as its page is there.
FETCHED = ("/api/me", "/api/kernelspecs", "/lab/api/settings")
_PAGE_CONFIG = re.compile(r'<script id="jupyter-config-data"[^>]*>(.*?)</script>', re.DOTALL)
REFUSALS = {"authelia": (302, 303, 401), "basic": (401,)}


class OpenDoorError(UnfitError):
    """Somebody without a login was let in: no waiting makes that good."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be proven.

    `names` are the hosts of notebook, dashboard and, if any, prefect; `addresses` where they are,
    unless the name servers know; `auth` is authelia, basic or none; `portal` Authelia's address;
    user and password may be empty, and so may the notebook's token and password, which must open
    nothing else then. A cell of the notebook computes on so many `workers`, none with 0.
    """

    deadline_seconds: float
    names: Mapping[str, str]
    addresses: tuple[str, ...]
    workers: int
    port: int = 443
    verified: bool
    auth: str
    portal: str
    user: str = field(repr=False)
    password: str = field(repr=False)
    notebook_token: str = field(repr=False)
    notebook_password: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "Request":
        """Read a request; raises `ValueError` when it is not one, without repeating it."""
        try:
            data = json.loads(text)
            return cls(**{**data, "addresses": tuple(data["addresses"])})
        except (TypeError, KeyError, ValueError) as error:
            kind = type(error).__name__
            raise ValueError(f"the request on standard input is not understood ({kind})") from None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back: status, headers, the names and values of new cookies, the text."""

    status: int
    location: str
    cookies: Mapping[str, str]
    text: str


class Visitor:
    """Somebody with a browser: asks by name, at the given addresses, and keeps cookies.

    `cookies` are those of each host, by their names.
    """

    def __init__(self, request: Request) -> None:
        self.cookies: dict[str, dict[str, str]] = {}
        self._request = request
        self._tls = ssl.create_default_context()
        if not request.verified:
            # Names under localhost have certificates of Caddy's own authority.
            self._tls.check_hostname = False
            self._tls.verify_mode = ssl.CERT_NONE

    def get(self, host: str, path: str, headers: Mapping[str, str]) -> Answer:
        """Ask for a page."""
        return self._ask("GET", host, path, {"Accept": "text/html", **headers})

    def fetch(
        self, method: str, host: str, path: str, headers: Mapping[str, str], body: str = ""
    ) -> Answer:
        """Ask as JupyterLab's own program does."""
        xsrf = self.cookies.get(host, {}).get("_xsrf", "")
        ours = {"Accept": "*/*", "X-XSRFToken": xsrf}
        return self._ask(method, host, path, {**ours, **headers}, body)

    def post(self, host: str, path: str, headers: Mapping[str, str], body: str) -> Answer:
        """Send a form or a document."""
        return self._ask("POST", host, path, headers, body)

    def upgrade(self, host: str, path: str, headers: Mapping[str, str]) -> Answer:
        """Try to open a websocket."""
        return self._ask("GET", host, path, {**UPGRADE, "Origin": f"https://{host}", **headers})

    def websocket(self, host: str, path: str, headers: Mapping[str, str]) -> WebSocket:
        """Return an open websocket."""
        sock = self._tls.wrap_socket(self._reach(host), server_hostname=host)
        cookies = _with_cookies(headers, self.cookies.get(host, {}))
        return WebSocket(f"wss://{host}{path}", cookies, sock)

    def _ask(
        self, method: str, host: str, path: str, headers: Mapping[str, str], body: str = ""
    ) -> Answer:
        connection = HTTPSConnection(host, timeout=ANSWER_SECONDS)
        kept = self.cookies.setdefault(host, {})
        try:
            connection.sock = self._tls.wrap_socket(self._reach(host), server_hostname=host)
            connection.request(method, path, body or None, _with_cookies(headers, kept))
            answer = _read(connection.getresponse())
        finally:
            connection.close()
        kept.update(answer.cookies)
        return answer

    def _reach(self, host: str) -> socket.socket:
        # Names under localhost are where the addresses say, a portal's included.
        ours = host in self._request.names.values() or host.endswith(".localhost")
        errors: list[str] = []
        port = self._request.port if ours else 443
        for address in (ours and self._request.addresses) or (host,):
            try:
                return socket.create_connection((address, port), timeout=ANSWER_SECONDS)
            except OSError as error:
                errors.append(f"{address}:{port} {error.strerror or error}")
        raise OSError("; ".join(errors))


def _read(answer: HTTPResponse) -> Answer:
    cookies = [each.partition(";")[0] for each in answer.headers.get_all("Set-Cookie", [])]
    return Answer(
        status=answer.status,
        location=answer.headers.get("Location", ""),
        cookies=dict(each.partition("=")[::2] for each in cookies),
        text="" if answer.status == 101 else answer.read().decode(errors="replace"),
    )


class Proof:
    """One attempt to prove the front; each step raises `UnfitError`."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._visitor = Visitor(request)

    def result(self) -> dict[str, Any]:
        """Return what was proven of each name."""
        proven: dict[str, Any] = {}
        for site, host in self._request.names.items():
            proven[site] = {"url": f"https://{host}"}
            if self._request.auth != "none":
                proven[site]["anonymous"] = self._anonymous(site, host)
        if not self._can_log_in():
            return {"auth": self._request.auth, "login_tried": False, **proven}
        login = self._login()
        for site, host in self._request.names.items():
            proven[site] |= self._inside(site, host, login)
        return {"auth": self._request.auth, "login_tried": True, **proven}

    def _can_log_in(self) -> bool:
        return self._request.auth == "none" or bool(self._request.password)

    def _anonymous(self, site: str, host: str) -> int:
        stranger = Visitor(self._request)
        for who, headers in (("anonymous", {}), ("forged", FORGED)):
            page = stranger.get(host, PAGES[site], headers)
            self._check_refused(f"{who} request to https://{host}{PAGES[site]}", site, page)
            opened = stranger.upgrade(host, SOCKETS[site], headers)
            self._check_refused(f"{who} websocket to https://{host}{SOCKETS[site]}", site, opened)
        return page.status

    def _check_refused(self, what: str, site: str, answer: Answer) -> None:
        if self._is_inside(site, answer):
            raise OpenDoorError(
                f"the front is open: the {what} was answered {answer.status} without a login"
            )
        if answer.status not in REFUSALS[self._request.auth]:
            wanted = " or ".join(map(str, REFUSALS[self._request.auth]))
            raise UnfitError(f"{what}: expected {wanted}, found {answer.status}")
        if answer.status != 401 and not _leads_to(self._request.portal, answer):
            where = answer.location.partition("?")[0]
            raise UnfitError(f"{what}: expected the portal {self._request.portal}, found {where}")

    def _is_inside(self, site: str, answer: Answer) -> bool:
        """Whether the service itself answered; Jupyter sends to its own login, on its own host."""
        stays = urlsplit(answer.location).netloc in ("", self._request.names[site])
        redirected = 300 <= answer.status < 400
        content = MARKS[site].search(answer.text) is not None
        return content or answer.status in (101, 200) or (redirected and stays)

    def _login(self) -> dict[str, str]:
        """Return the headers of somebody who is logged in."""
        request = self._request
        if request.auth == "none":
            return {}
        if request.auth == "basic":
            pair = f"{request.user}:{request.password}".encode()
            return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        body = {"username": request.user, "password": request.password, "keepMeLoggedIn": False}
        portal = urlsplit(request.portal)
        answer = self._visitor.post(
            portal.netloc,
            f"{portal.path}/api/firstfactor",
            {"Content-Type": "application/json"},
            json.dumps(body),
        )
        if answer.status != 200 or not answer.cookies:
            raise UnfitError(f"the login at {request.portal} was answered {answer.status}")
        return {"Cookie": _spelled(answer.cookies)}

    def _inside(self, site: str, host: str, login: Mapping[str, str]) -> dict[str, Any]:
        query, headers = (
            self._open_notebook(host, login) if site == "notebook" else "",
            dict(login),
        )
        page = self._visitor.get(host, PAGES[site] + query, headers)
        what = f"https://{host}{PAGES[site]} with a login"
        if page.status != 200 or not MARKS[site].search(page.text):
            raise UnfitError(f"{what}: expected {TITLES[site]}, found {page.status}")
        if token := re.search(r'"token":"([^"]+)"', page.text if site == "dashboard" else ""):
            headers["Sec-WebSocket-Protocol"] = f"bokeh, {token[1]}"
        opened = self._visitor.upgrade(host, SOCKETS[site], headers)
        if opened.status != 101:
            raise UnfitError(f"{what}: its websocket was answered {opened.status} instead of 101")
        used = self._use_notebook(host, login, page) if site == "notebook" else {}
        return {"login": page.status, "websocket": opened.status, **used}

    def _open_notebook(self, host: str, login: Mapping[str, str]) -> str:
        """Log in to JupyterLab itself where it asks for that; return the query of its page."""
        if self._request.notebook_token:
            return "?" + urlencode({"token": self._request.notebook_token})
        if self._request.notebook_password:
            self._visitor.get(host, "/login", login)
            xsrf = self._visitor.cookies[host].get("_xsrf", "")
            form = {"password": self._request.notebook_password, "_xsrf": xsrf}
            headers = {**login, "Content-Type": "application/x-www-form-urlencoded"}
            self._visitor.post(host, "/login", headers, urlencode(form))
        return ""

    def _use_notebook(
        self, host: str, login: Mapping[str, str], page: Answer
    ) -> dict[str, dict[str, Any]]:
        """Do what JupyterLab does once its page is there; return what a cell found, if one is run.

        Its cookies are the visitor's.
        """
        headers = dict(login)
        if token := _page_token(page.text):
            # In the place of what the browser would send for a basic login.
            headers["Authorization"] = f"token {token}"
        for path in FETCHED:
            answer = self._visitor.fetch("GET", host, path, headers)
            if answer.status != 200:
                what = f"JupyterLab's own request for https://{host}{path} with a login"
                raise UnfitError(f"{what}: expected 200, found {answer.status}")
        if not self._request.workers:
            return {}
        lab = JupyterLab(self._visitor, host, headers)
        return {"cell": compute_in_notebook(lab, self._request.workers)}


@dataclass(frozen=True)
class JupyterLab:
    """What JupyterLab's own program asks, once somebody has opened its page."""

    visitor: Visitor
    host: str
    headers: Mapping[str, str]

    def ask(self, method: str, path: str, body: str = "") -> tuple[int, str]:
        """Return status and text of the answer."""
        answer = self.visitor.fetch(method, self.host, path, self.headers, body)
        return answer.status, answer.text

    def open(self, path: str) -> WebSocket:
        """Return an open websocket."""
        return self.visitor.websocket(self.host, path, self.headers)


def _leads_to(portal: str, answer: Answer) -> bool:
    wanted, found = urlsplit(portal), urlsplit(answer.location)
    return (wanted.scheme, wanted.netloc) == (found.scheme, found.netloc)


def _spelled(cookies: Mapping[str, str]) -> str:
    return "; ".join(f"{name}={value}" for name, value in cookies.items())


def _with_cookies(headers: Mapping[str, str], cookies: Mapping[str, str]) -> dict[str, str]:
    both = "; ".join(filter(None, [headers.get("Cookie", ""), _spelled(cookies)]))
    return {**headers, "Cookie": both} if both else dict(headers)


def _page_token(text: str) -> str:
    """Return the token that JupyterLab's page gives to its program, empty if none."""
    found = _PAGE_CONFIG.search(text)
    try:
        return str(json.loads(found[1]).get("token", "")) if found else ""
    except ValueError:
        return ""


def prove(request: Request, progress: Progress) -> dict[str, Any]:
    """Return what was proven; raises `UnfitError` when it is not within the deadline."""
    while True:
        try:
            return {**Proof(request).result(), "seconds": round(progress.elapsed, 1)}
        except OpenDoorError:
            raise
        except CellError as error:
            raise UnfitError(str(error)) from None
        except ssl.SSLCertVerificationError as error:
            reason = f"the certificate is not trusted: {error.verify_message}"
        except (OSError, HTTPException) as error:
            reason = f"no answer ({error})"
        except UnfitError as error:
            reason = str(error)
        progress.tell(f"front: {reason}")
        if progress.elapsed > request.deadline_seconds:
            limit = f"{request.deadline_seconds:g} s"
            raise UnfitError(f"the front is not proven within {limit}: {reason}")
        time.sleep(PAUSE_SECONDS)


def main() -> int:
    """Prove what standard input asks for and return the exit code."""
    try:
        result = prove(Request.parse(sys.stdin.read()), Progress())
    except (UnfitError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
