"""A user who has logged in with the notebook's own form, from inside the cluster."""

from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlencode, urlsplit

from . import UnprovenError
from .kernel import WebSocket

ANSWER_SECONDS = 30  # to start a kernel on a busy node


class Session:
    """A browser's session at `url`; `secret` is the notebook's token or password.

    Raises `OSError` without an answer, `UnprovenError` if the notebook refuses the secret.
    """

    def __init__(self, url: str, secret: str) -> None:
        self._base = urlsplit(url)
        self._cookies: dict[str, str] = {}
        self._ask("GET", "/login")
        form = {"password": secret, "_xsrf": self._cookies.get("_xsrf", "")}
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        status, _ = self._ask("POST", "/login", urlencode(form), kind)
        if status != 302:
            raise UnprovenError(
                f"expected {url}/login to accept the notebook's token or password (302), "
                f"found {status}; was the notebook started with another secret?"
            )

    def ask(self, method: str, path: str, body: str = "") -> tuple[int, str]:
        """Return status and text of the answer."""
        return self._ask(method, path, body, {"X-XSRFToken": self._cookies.get("_xsrf", "")})

    def open(self, path: str) -> WebSocket:
        """Return an open websocket."""
        return WebSocket(f"ws://{self._base.netloc}{path}", {"Cookie": self._cookie_header()})

    def _ask(
        self, method: str, path: str, body: str = "", headers: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        host, port = self._base.hostname or "", self._base.port
        connection = HTTPConnection(host, port, timeout=ANSWER_SECONDS)
        try:
            own = {"Cookie": self._cookie_header()}
            connection.request(method, path, body or None, {**own, **(headers or {})})
            answer = connection.getresponse()
            for cookie in answer.headers.get_all("Set-Cookie", []):
                name, _, value = cookie.partition(";")[0].partition("=")
                self._cookies[name] = value
            return answer.status, answer.read().decode(errors="replace")
        except HTTPException as error:
            raise OSError(f"the notebook's answer broke off: {error!r}") from None
        finally:
            connection.close()

    def _cookie_header(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self._cookies.items())
