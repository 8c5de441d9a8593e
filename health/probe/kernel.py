"""A cell of the notebook, run as JupyterLab runs it: a kernel, its websocket, the cell's output.

How requests reach the server, and with which login, is the caller's: from outside through the
login in front, or from inside the cluster. Messages are those of
https://jupyter-client.readthedocs.io/en/stable/messaging.html, in JSON.
"""

import json
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Protocol

CONNECT_SECONDS = 15
CELL_SECONDS = 90  # a kernel's start and the import of distributed, on a node that is busy
MARK = "dask-cell: "

CELL = """
import json, warnings
from dask.distributed import Client

with warnings.catch_warnings(record=True) as caught, Client() as client:
    warnings.simplefilter("always")
    client.wait_for_workers({workers}, timeout={seconds})
    client.get_versions(check=True)
    members = list(client.scheduler_info(n_workers=-1)["workers"])
    sums = [client.submit(sum, range(10), workers=[member], pure=False) for member in members]
    found = {{"workers": len(members), "sums": client.gather(sums)}}
mismatches = [str(each.message) for each in caught if "VersionMismatch" in each.category.__name__]
print("{mark}" + json.dumps({{**found, "mismatches": mismatches}}))
"""


class Wire(Protocol):
    """An open websocket."""

    def send(self, text: str) -> None:
        """Send one message; raises `OSError`."""

    def receive(self, seconds: float) -> str:
        """Return the next message; raises `OSError`, of which `TimeoutError` is one."""

    def close(self) -> None:
        """Hang up."""


class WebSocket:
    """A websocket by package websocket-client, which every Jupyter server brings along.

    `sock` is a connection to the server, if there is one already. Raises `OSError` throughout.
    """

    def __init__(self, url: str, headers: Mapping[str, str], sock: Any = None) -> None:  # noqa: ANN401
        import websocket

        spelled = [f"{name}: {value}" for name, value in headers.items()]
        self._errors = (websocket.WebSocketException, ValueError)
        self._late = websocket.WebSocketTimeoutException
        self._wire: Any = self._checked(
            lambda: websocket.create_connection(
                url, header=spelled, socket=sock, timeout=CONNECT_SECONDS
            )
        )

    def send(self, text: str) -> None:
        """Send one message."""
        self._checked(lambda: self._wire.send(text))

    def receive(self, seconds: float) -> str:
        """Return the next message."""
        self._wire.settimeout(seconds)
        return str(self._checked(self._wire.recv))

    def close(self) -> None:
        """Hang up."""
        self._wire.close(timeout=1)

    def _checked(self, act: Callable[[], Any]) -> Any:  # noqa: ANN401
        try:
            return act()
        except self._late as error:
            raise TimeoutError(str(error)) from None
        except self._errors as error:
            raise OSError(f"the websocket broke off: {error}") from None


class Server(Protocol):
    """A Jupyter server that has let somebody in."""

    def ask(self, method: str, path: str, body: str = "") -> tuple[int, str]:
        """Return status and text of the answer."""

    def open(self, path: str) -> Wire:
        """Return an open websocket."""


class CellError(Exception):
    """The notebook did not run the cell; the message says what was expected and found."""


def compute_in_notebook(server: Server, workers: int) -> dict[str, Any]:
    """Have a new kernel compute on all workers, and end it; return what the cell found.

    Raises `CellError`, `OSError` where the server cannot be reached.
    """
    status, text = server.ask("POST", "/api/kernels", json.dumps({"name": "python3"}))
    if status != 201:
        raise CellError(f"the notebook did not start a kernel: expected 201, found {status}")
    kernel = json.loads(text)["id"]
    try:
        code = CELL.format(workers=workers, seconds=CELL_SECONDS // 2, mark=MARK)
        return checked(parse(run_cell(server, kernel, code)), workers)
    finally:
        server.ask("DELETE", f"/api/kernels/{kernel}")


def run_cell(server: Server, kernel: str, code: str) -> str:
    """Return what a cell prints; raises `CellError` with its error, or when it takes too long."""
    session = uuid.uuid4().hex
    wire = server.open(f"/api/kernels/{kernel}/channels?session_id={session}")
    end = time.monotonic() + CELL_SECONDS
    try:
        wire.send(json.dumps(request(session, code)))
        printed = ""
        while True:
            message = json.loads(wire.receive(max(end - time.monotonic(), 0.01)))
            if message["parent_header"].get("msg_id") != session:
                continue
            content = message["content"]
            if message["msg_type"] == "stream":
                printed += content["text"]
            if message["msg_type"] == "error":
                raise CellError(f"a cell of the notebook failed: {spell(content, printed)}")
            if content.get("execution_state") == "idle":
                return printed
    except TimeoutError:
        raise CellError(f"a cell of the notebook did not end within {CELL_SECONDS} s") from None
    finally:
        wire.close()


def request(session: str, code: str) -> dict[str, Any]:
    """Return the message that asks a kernel to run code; its id is the session's."""
    header = {
        "msg_id": session,
        "msg_type": "execute_request",
        "session": session,
        "username": "",
        "version": "5.3",
        "date": "",
    }
    content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
    empty: dict[str, Any] = {"parent_header": {}, "metadata": {}, "buffers": []}
    return {"header": header, "content": content, "channel": "shell", **empty}


def spell(content: Mapping[str, Any], printed: str) -> str:
    """Return a cell's error in a line, with the end of what it printed before."""
    before = f"; before, it printed {printed[-200:]!r}" if printed else ""
    return f"{content['ename']}: {content['evalue']}{before}"


def parse(printed: str) -> dict[str, Any]:
    """Return what the cell found; raises `CellError` when it printed something else."""
    lines = [line for line in printed.splitlines() if line.startswith(MARK)]
    if not lines:
        raise CellError(f"a cell of the notebook printed {printed[-200:]!r} instead of its result")
    found: dict[str, Any] = json.loads(lines[-1].removeprefix(MARK))
    return found


def checked(found: dict[str, Any], workers: int) -> dict[str, Any]:
    """Return what the cell found; raises `CellError` unless all workers computed, as expected."""
    if found["mismatches"]:
        raise CellError(
            "the notebook's versions are not the cluster's; packages that were installed in "
            f"its home may be the reason: {found['mismatches'][0]}"
        )
    if found["workers"] != workers or found["sums"] != [45] * workers:
        raise CellError(
            f"expected Client() in the notebook to compute on {workers} workers, found {found}"
        )
    return {"workers": workers}
