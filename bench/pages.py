"""The pages of a cluster with a managed Caddy, behind a stand-in for Authelia."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

from bench.faults import SECONDS, Fault
from bench.ingress import ingress_request
from health.http_client import ANSWER_SECONDS, HttpClient
from health.ingress import (
    PAGES,
    IngressProof,
    UnauthenticatedAccessError,
    client_of,
)
from lab.layout import Lab
from lab.portal import PASSWORD, USER
from lab.services import PORTAL_PORT
from swarm import UnfitError

PORTAL = "https://portal.localhost"
NAMES = {site: f"{site}.localhost" for site in ("notebook", "dashboard")}


def config(lab: Lab) -> dict[str, str]:
    """Return the config of a stack that asks the stand-in."""
    return {
        "caddyMode": "managed",
        "caddyNetwork": "dask-caddy-network",
        "domain": "localhost",
        "auth": "authelia",
        "autheliaPortal": PORTAL,
        "autheliaAddress": _login_service(lab),
    }


def seconds_until_served(lab: Lab, fault: Fault) -> float:
    """Return the seconds from the start of a fault until a login opens the pages again.

    Raises `UnauthenticatedAccessError` if a page opens without a login meanwhile.
    """
    start = time.monotonic()
    with ThreadPoolExecutor() as pool:
        struck = pool.submit(fault.strike, lab)
        while time.monotonic() - start < SECONDS:
            is_over = struck.done() and struck.result() is None
            if are_served(lab) and is_over:
                return time.monotonic() - start
            time.sleep(0.1)
    raise TimeoutError(f"the pages are not served {SECONDS} s after the start")


def are_served(lab: Lab) -> bool:
    """Return whether a login opens all pages; raises an error if a page opens without a login."""
    request = replace(
        ingress_request(lab.master.address), names=NAMES, auth="authelia", portal=PORTAL
    )
    try:
        IngressProof(request).result()
        return _opens(client_of(request), _log_in(lab))
    except UnauthenticatedAccessError:
        raise
    except (OSError, HTTPException, UnfitError):
        return False


def _opens(client: HttpClient, login: dict[str, str]) -> bool:
    pages = [client.get(host, PAGES[site], login) for site, host in NAMES.items()]
    return {page.status for page in pages} == {HTTPStatus.OK}


def _log_in(lab: Lab) -> dict[str, str]:
    """Return the headers of a new session."""
    with closing(HTTPConnection(_login_service(lab), timeout=ANSWER_SECONDS)) as connection:
        body = json.dumps({"username": USER, "password": PASSWORD})
        connection.request("POST", "/api/firstfactor", body)
        cookie = connection.getresponse().getheader("Set-Cookie", "")
    return {"Cookie": cookie.partition(";")[0]}


def _login_service(lab: Lab) -> str:
    return f"{lab.gateway}:{PORTAL_PORT}"
