"""The notebook as its owner and a stranger find it."""

import json
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from . import UnprovenError
from .deadline import PAUSE_SECONDS
from .kernel import CellError, compute_in_notebook
from .messages import Notebook
from .session import Session

FORGED = {"Proxy-Authorization": "forged", "Remote-User": "admin"}


def wait_for_notebook(notebook: Notebook) -> None:
    """Return when the notebook answers, refuses strangers and lets its owner in.

    The deadline ends the wait. Raises `UnprovenError` when it lets strangers in, or not its owner.
    """
    while not is_jupyter(ask(notebook.url, "/api")):
        time.sleep(PAUSE_SECONDS)
    private = f"{notebook.url}/api/status"
    for who, headers in (("a stranger", {}), ("a forged front key", FORGED)):
        status = answered(notebook.url, "/api/status", headers)
        if status not in (401, 403):
            raise UnprovenError(f"expected {private} to refuse {who} (403), found {status}")
    secret = Path(notebook.secret_file).read_text().strip()
    if notebook.kind == "password":
        Session(notebook.url, secret)
        return
    owner = answered(notebook.url, "/api/status", {"Authorization": f"token {secret}"})
    if owner != 200:
        raise UnprovenError(
            f"expected {private} to accept the notebook's token (200), found {owner}; "
            "was the notebook started with another secret?"
        )


def compute(notebook: Notebook, workers: int) -> dict[str, Any]:
    """Have a cell of the notebook compute on all workers, and return what it found.

    Raises `UnprovenError` when it does not.
    """
    secret = Path(notebook.secret_file).read_text().strip()
    try:
        return compute_in_notebook(Session(notebook.url, secret), workers)
    except CellError as error:
        raise UnprovenError(str(error)) from None
    except OSError as error:
        raise UnprovenError(f"{notebook.url} broke off while it ran a cell: {error}") from None


def is_jupyter(answer: tuple[int, bytes] | None) -> bool:
    """Tell whether this is how Jupyter tells its version."""
    try:
        return bool(answer and answer[0] == 200 and "version" in json.loads(answer[1]))
    except ValueError:
        return False


def answered(base: str, path: str, headers: Mapping[str, str] | None = None) -> int:
    """Return the HTTP status of the first answer; the deadline ends the wait for one."""
    while (answer := ask(base, path, headers)) is None:
        time.sleep(PAUSE_SECONDS)
    return answer[0]


def ask(
    base: str, path: str, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes] | None:
    """Return HTTP status and body that a GET is answered with, None without an answer.

    Redirects are not followed: a log-in page answers 200 to everybody.
    """
    url = urlsplit(base)
    connection = HTTPConnection(url.hostname or "", url.port, timeout=5)
    try:
        connection.request("GET", url.path.rstrip("/") + path, headers=dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
