"""An HTTPS client that connects to fixed addresses under any host name, and keeps cookies.

It does not follow redirects. urllib3 would not replace it: the client needs the TLS connection for
websockets too, tries several addresses, and reports the errors of the sockets.
"""

import base64
import socket
import ssl
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPResponse, HTTPSConnection

from health.probe.kernel import WebSocket

ANSWER_SECONDS = 15
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(b"dask-swarm-proof").decode(),
}


@dataclass(frozen=True, kw_only=True)
class Response:
    """An answer: status, `Location` header, name to value of new cookies, and text."""

    status: int
    location: str
    cookies: Mapping[str, str]
    text: str


class HttpClient:
    """Sends requests for `hosts`, and for names under localhost, to `addresses`.

    Without addresses, and for other hosts, it asks the name servers. With `verified` it checks
    certificates. `cookies` is host to its cookies.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        hosts: Collection[str] = (),
        port: int = 443,
        verified: bool = True,
    ) -> None:
        self.cookies: dict[str, dict[str, str]] = {}
        self._addresses = addresses
        self._hosts = hosts
        self._port = port
        self._tls = ssl.create_default_context()
        if not verified:
            self._tls.check_hostname = False
            self._tls.verify_mode = ssl.CERT_NONE

    def get(self, host: str, path: str, headers: Mapping[str, str]) -> Response:
        """Request a page."""
        return self._send("GET", host, path, {"Accept": "text/html", **headers})

    def fetch(
        self, method: str, host: str, path: str, headers: Mapping[str, str], body: str = ""
    ) -> Response:
        """Send a request like a script of a page from `host`."""
        xsrf = self.cookies.get(host, {}).get("_xsrf", "")
        own = {"Accept": "*/*", "X-XSRFToken": xsrf}
        return self._send(method, host, path, {**own, **headers}, body)

    def post(self, host: str, path: str, headers: Mapping[str, str], body: str) -> Response:
        """Send a form or a document."""
        return self._send("POST", host, path, headers, body)

    def upgrade(self, host: str, path: str, headers: Mapping[str, str]) -> Response:
        """Try to open a websocket."""
        return self._send("GET", host, path, {**UPGRADE, "Origin": f"https://{host}", **headers})

    def websocket(self, host: str, path: str, headers: Mapping[str, str]) -> WebSocket:
        """Return an open websocket."""
        return WebSocket(
            f"wss://{host}{path}", self._with_cookies(host, headers), self._tls_to(host)
        )

    def _send(
        self, method: str, host: str, path: str, headers: Mapping[str, str], body: str = ""
    ) -> Response:
        connection = HTTPSConnection(host, timeout=ANSWER_SECONDS)
        try:
            connection.sock = self._tls_to(host)
            connection.request(method, path, body or None, self._with_cookies(host, headers))
            response = _read(connection.getresponse())
        finally:
            connection.close()
        self.cookies.setdefault(host, {}).update(response.cookies)
        return response

    def _with_cookies(self, host: str, headers: Mapping[str, str]) -> dict[str, str]:
        own = cookie_header(self.cookies.get(host, {}))
        both = "; ".join(filter(None, [headers.get("Cookie", ""), own]))
        return {**headers, "Cookie": both} if both else dict(headers)

    def _tls_to(self, host: str) -> ssl.SSLSocket:
        return self._tls.wrap_socket(self._connect(host), server_hostname=host)

    def _connect(self, host: str) -> socket.socket:
        fixed = host in self._hosts or host.endswith(".localhost")
        port = self._port if fixed else 443
        errors: list[str] = []
        for address in (fixed and self._addresses) or (host,):
            try:
                return socket.create_connection((address, port), timeout=ANSWER_SECONDS)
            except OSError as error:
                errors.append(f"{address}:{port} {error.strerror or error}")
        raise OSError("; ".join(errors))


def _read(response: HTTPResponse) -> Response:
    cookies = [line.partition(";")[0] for line in response.headers.get_all("Set-Cookie", [])]
    return Response(
        status=response.status,
        location=response.headers.get("Location", ""),
        cookies=dict(cookie.partition("=")[::2] for cookie in cookies),
        text="" if response.status == 101 else response.read().decode(errors="replace"),
    )


def cookie_header(cookies: Mapping[str, str]) -> str:
    """Return the value of the `Cookie` header."""
    return "; ".join(f"{name}={value}" for name, value in cookies.items())
