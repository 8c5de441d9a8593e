"""The notebook's login: it must accept its owner and refuse everyone else."""

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
    """Wait until the notebook answers, and check its login.

    Raises `UnprovenError` if it accepts a request without a login, or refuses its owner.
    """
    while not is_jupyter(ask(f"{notebook.url}/api", {})):
        time.sleep(PAUSE_SECONDS)
    private = f"{notebook.url}/api/status"
    for who, headers in (("a request without a login", {}), ("a forged ingress key", FORGED)):
        status = wait_for_status(private, headers)
        if status not in (401, 403):
            raise UnprovenError(f"expected {private} to refuse {who} (403), found {status}")
    secret = Path(notebook.secret_file).read_text().strip()
    if notebook.kind == "password":
        Session(notebook.url, secret)
        return
    status = wait_for_status(private, {"Authorization": f"token {secret}"})
    if status != 200:
        raise UnprovenError(
            f"expected {private} to accept the notebook's token (200), found {status}; "
            "was the notebook started with another secret?"
        )


def compute(notebook: Notebook, workers: int) -> dict[str, Any]:
    """Compute on all workers in a cell of the notebook, and return the cell's result.

    Raises `UnprovenError` if that fails.
    """
    secret = Path(notebook.secret_file).read_text().strip()
    try:
        return compute_in_notebook(Session(notebook.url, secret), workers)
    except CellError as error:
        raise UnprovenError(str(error)) from None
    except OSError as error:
        raise UnprovenError(f"{notebook.url} broke off while it ran a cell: {error}") from None


def is_jupyter(answer: tuple[int, bytes] | None) -> bool:
    """Return whether this is a Jupyter server's answer about its version."""
    try:
        return bool(answer and answer[0] == 200 and "version" in json.loads(answer[1]))
    except ValueError:
        return False


def wait_for_status(url: str, headers: Mapping[str, str]) -> int:
    """Wait for an answer and return its HTTP status."""
    while (answer := ask(url, headers)) is None:
        time.sleep(PAUSE_SECONDS)
    return answer[0]


def ask(url: str, headers: Mapping[str, str]) -> tuple[int, bytes] | None:
    """Return HTTP status and body of the answer to a GET, None without an answer.

    It does not follow redirects: a login page answers 200 to every request.
    """
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request("GET", parts.path, headers=dict(headers))
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
