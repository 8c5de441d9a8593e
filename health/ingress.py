"""The proof of the ingress, from outside the cluster: only a login opens its services.

Run as `python -m health.ingress < request.json > proof.json` on the machine that runs Pulumi. The
request is one JSON object (`IngressRequest`) with credentials, so it is never printed. For every
service the proof tries

    anonymous    a page and a websocket, without a login and with forged identity headers. The
                 answer must be that of the login (302 to the portal, or 401).
    login        with credentials, if known: the service's own page and websocket, the requests of
                 JupyterLab's page, and a cell that computes on all workers

A missing answer is waited for until the deadline. Access without a login fails at once.
"""

import base64
import json
import re
import ssl
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from health.http_client import HttpClient, Response, cookie_header
from health.jupyterlab import JupyterLab
from health.probe.kernel import CellError
from swarm import UnfitError
from swarm.progress import Progress

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
# Text of the services' own pages that no login page has.
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
REFUSALS = {"authelia": (302, 303, 401), "basic": (401,)}


class UnauthenticatedAccessError(UnfitError):
    """A service answered a request without a login; waiting does not help."""


@dataclass(frozen=True, kw_only=True)
class IngressRequest:
    """What to prove.

    `names` are the hosts of notebook, dashboard and, if any, prefect; `addresses` are their
    addresses, empty to ask the name servers. `auth` is authelia, basic or none; `portal` is
    Authelia's address. User and password may be empty. If the notebook's token and password are
    empty, it must not ask for a login. A cell computes on so many `workers`, none with 0.
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
    def parse(cls, text: str) -> "IngressRequest":
        """Read a request; raises `ValueError` for an invalid one, without its content."""
        try:
            data = json.loads(text)
            return cls(**{**data, "addresses": tuple(data["addresses"])})
        except (TypeError, KeyError, ValueError) as error:
            kind = type(error).__name__
            raise ValueError(f"the request on standard input is not understood ({kind})") from None


def client_of(request: IngressRequest) -> HttpClient:
    """Return a new client of the ingress, without cookies."""
    return HttpClient(
        request.addresses,
        hosts=request.names.values(),
        port=request.port,
        verified=request.verified,
    )


class IngressProof:
    """One attempt to prove the ingress; every step raises `UnfitError`."""

    def __init__(self, request: IngressRequest) -> None:
        self._request = request
        self._client = client_of(request)

    def result(self) -> dict[str, Any]:
        """Return the proof of every service."""
        auth, names = self._request.auth, self._request.names
        proof: dict[str, Any] = {site: {"url": f"https://{host}"} for site, host in names.items()}
        if auth != "none":
            for site, host in names.items():
                proof[site]["anonymous"] = self._check_anonymous(site, host)
        can_log_in = auth == "none" or bool(self._request.password)
        if can_log_in:
            login = self._log_in()
            for site, host in names.items():
                proof[site] |= self._check_login(site, host, login)
        return {"auth": auth, "login_tried": can_log_in, **proof}

    def _check_anonymous(self, site: str, host: str) -> int:
        client = client_of(self._request)
        for who, headers in (("anonymous", {}), ("forged", FORGED)):
            page = client.get(host, PAGES[site], headers)
            self._check_refused(f"{who} request to https://{host}{PAGES[site]}", site, page)
            opened = client.upgrade(host, SOCKETS[site], headers)
            self._check_refused(f"{who} websocket to https://{host}{SOCKETS[site]}", site, opened)
        return page.status

    def _check_refused(self, what: str, site: str, response: Response) -> None:
        status = response.status
        if self._is_from_service(site, response):
            raise UnauthenticatedAccessError(
                f"the ingress is open: the {what} was answered {status} without a login"
            )
        if status not in REFUSALS[self._request.auth]:
            wanted = " or ".join(map(str, REFUSALS[self._request.auth]))
            raise UnfitError(f"{what}: expected {wanted}, found {status}")
        if status != 401 and not _leads_to(self._request.portal, response):
            where = response.location.partition("?")[0]
            raise UnfitError(f"{what}: expected the portal {self._request.portal}, found {where}")

    def _is_from_service(self, site: str, response: Response) -> bool:
        """Return whether the service itself answered; Jupyter redirects to a login on its host."""
        stays = urlsplit(response.location).netloc in ("", self._request.names[site])
        redirected = 300 <= response.status < 400
        content = MARKS[site].search(response.text) is not None
        return content or response.status in (101, 200) or (redirected and stays)

    def _log_in(self) -> dict[str, str]:
        """Return the headers of a logged-in user."""
        request = self._request
        if request.auth == "none":
            return {}
        if request.auth == "basic":
            pair = f"{request.user}:{request.password}".encode()
            return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        body = {"username": request.user, "password": request.password, "keepMeLoggedIn": False}
        portal = urlsplit(request.portal)
        response = self._client.post(
            portal.netloc,
            f"{portal.path}/api/firstfactor",
            {"Content-Type": "application/json"},
            json.dumps(body),
        )
        if response.status != 200 or not response.cookies:
            raise UnfitError(f"the login at {request.portal} was answered {response.status}")
        return {"Cookie": cookie_header(response.cookies)}

    def _check_login(self, site: str, host: str, login: Mapping[str, str]) -> dict[str, Any]:
        request, query, headers = self._request, "", dict(login)
        lab = JupyterLab(self._client, host, login) if site == "notebook" else None
        if lab:
            query = lab.log_in(request.notebook_token, request.notebook_password)
        page = self._client.get(host, PAGES[site] + query, headers)
        what = f"https://{host}{PAGES[site]} with a login"
        if page.status != 200 or not MARKS[site].search(page.text):
            raise UnfitError(f"{what}: expected {TITLES[site]}, found {page.status}")
        if token := re.search(r'"token":"([^"]+)"', page.text if site == "dashboard" else ""):
            headers["Sec-WebSocket-Protocol"] = f"bokeh, {token[1]}"
        opened = self._client.upgrade(host, SOCKETS[site], headers)
        if opened.status != 101:
            raise UnfitError(f"{what}: its websocket was answered {opened.status} instead of 101")
        used = lab.prove(page.text, request.workers) if lab else {}
        return {"login": page.status, "websocket": opened.status, **used}


def _leads_to(portal: str, response: Response) -> bool:
    wanted, found = urlsplit(portal), urlsplit(response.location)
    return (wanted.scheme, wanted.netloc) == (found.scheme, found.netloc)


def prove(request: IngressRequest, progress: Progress) -> dict[str, Any]:
    """Return the proof; raises `UnfitError` if it fails until the deadline."""
    while True:
        try:
            return {**IngressProof(request).result(), "seconds": round(progress.elapsed, 1)}
        except UnauthenticatedAccessError:
            raise
        except CellError as error:
            raise UnfitError(str(error)) from None
        except ssl.SSLCertVerificationError as error:
            reason = f"the certificate is not trusted: {error.verify_message}"
        except (OSError, HTTPException) as error:
            reason = f"no answer ({error})"
        except UnfitError as error:
            reason = str(error)
        progress.update(f"ingress: {reason}")
        if progress.elapsed > request.deadline_seconds:
            limit = f"{request.deadline_seconds:g} s"
            raise UnfitError(f"the ingress is not proven within {limit}: {reason}")
        time.sleep(PAUSE_SECONDS)


def main() -> int:
    """Prove the request on standard input and return the exit code."""
    try:
        result = prove(IngressRequest.parse(sys.stdin.read()), Progress())
    except (UnfitError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
