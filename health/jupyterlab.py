"""JupyterLab behind the ingress: its own login, the requests of its page, and a cell."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from health.http_client import HttpClient
from health.probe.kernel import WebSocket, compute_in_notebook
from swarm import UnfitError

# What JupyterLab's page requests at its start.
FIRST_REQUESTS = ("/api/me", "/api/kernelspecs", "/lab/api/settings")
_PAGE_CONFIG = re.compile(r'<script id="jupyter-config-data"[^>]*>(.*?)</script>', re.DOTALL)


@dataclass(frozen=True)
class JupyterLab:
    """JupyterLab in a browser; `headers` are the login at the ingress."""

    client: HttpClient
    host: str
    headers: Mapping[str, str]

    def log_in(self, token: str, password: str) -> str:
        """Log in to JupyterLab if it has a token or password; return the query of its page."""
        if token:
            return "?" + urlencode({"token": token})
        if password:
            self.client.get(self.host, "/login", self.headers)
            xsrf = self.client.cookies[self.host].get("_xsrf", "")
            headers = {**self.headers, "Content-Type": "application/x-www-form-urlencoded"}
            form = urlencode({"password": password, "_xsrf": xsrf})
            self.client.post(self.host, "/login", headers, form)
        return ""

    def prove(self, page: str, workers: int) -> dict[str, dict[str, Any]]:
        """Send the requests of a page, and compute on all workers in a cell; none with 0 workers.

        Returns the cell's result; raises `UnfitError`, `CellError` or `OSError`.
        """
        lab = self
        if token := _page_token(page):
            # It replaces the header that the browser would send for a basic login.
            lab = replace(self, headers={**self.headers, "Authorization": f"token {token}"})
        for path in FIRST_REQUESTS:
            status, _ = lab.ask("GET", path)
            if status != 200:
                what = f"JupyterLab's own request for https://{self.host}{path} with a login"
                raise UnfitError(f"{what}: expected 200, found {status}")
        return {"cell": compute_in_notebook(lab, workers)} if workers else {}

    def ask(self, method: str, path: str, body: str = "") -> tuple[int, str]:
        """Return status and text of the answer."""
        response = self.client.fetch(method, self.host, path, self.headers, body)
        return response.status, response.text

    def open(self, path: str) -> WebSocket:
        """Return an open websocket."""
        return self.client.websocket(self.host, path, self.headers)


def _page_token(page: str) -> str:
    """Return the token in JupyterLab's page, empty without a token."""
    config = _PAGE_CONFIG.search(page)
    try:
        return str(json.loads(config[1]).get("token", "")) if config else ""
    except ValueError:
        return ""
