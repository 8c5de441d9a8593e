"""A cell of the notebook, run as JupyterLab runs it: a kernel, its websocket, the cell's output.

The caller connects and logs in: from outside through the ingress, or from inside the cluster.
Messages are those of
https://jupyter-client.readthedocs.io/en/stable/messaging.html, in JSON.
"""

import json
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from .tasks import BUSY_SECONDS, PRIORITY

CONNECT_SECONDS = 15
CELL_SECONDS = 90  # to start a kernel and import distributed on a busy node
MARK = "dask-cell: "

CELL = """
import json, time, warnings
from dask.distributed import Client
from dask.utils import key_split

def user_tasks(dask_worker):
    state, now = dask_worker.state, time.time()
    others = [task for task in state.executing if task.priority[0] != -{priority}]
    seconds = {{key_split(task.key): now - (task.start_time or now) for task in others}}
    spelled = [f"{{name}} for {{passed:.0f}} s" for name, passed in seconds.items()]
    return ", ".join(spelled) if len(others) >= state.nthreads else ""

with warnings.catch_warnings(record=True) as caught, Client() as client:
    warnings.simplefilter("always")
    client.wait_for_workers({workers}, timeout={seconds})
    client.get_versions(check=True)
    members = list(client.scheduler_info(n_workers=-1)["workers"])
    options = {{"pure": False, "priority": {priority}}}
    sums = {{m: client.submit(sum, range(10), workers=[m], **options) for m in members}}
    end = time.monotonic() + {busy_seconds}
    while time.monotonic() < end and not all(future.done() for future in sums.values()):
        time.sleep(0.05)
    late = [member for member in members if not sums[member].done()]
    busy = client.run(user_tasks, workers=late, on_error="ignore") if late else {{}}
    busy = {{m: tasks for m, tasks in busy.items() if tasks and not sums[m].done()}}
    for member in busy:
        sums.pop(member).cancel()
    answers = client.gather(list(sums.values()))
    result = {{"workers": len(members), "sums": answers, "busy": busy}}
mismatches = [str(w.message) for w in caught if "VersionMismatch" in w.category.__name__]
print("{mark}" + json.dumps({{**result, "mismatches": mismatches}}))
"""


class WebSocket:
    """A websocket of websocket-client, which every Jupyter server depends on.

    `sock` is an open connection to the server, if any. All errors are `OSError`, of which
    `TimeoutError` is one.
    """

    def __init__(self, url: str, headers: Mapping[str, str], sock: Any = None) -> None:  # noqa: ANN401
        import websocket

        lines = [f"{name}: {value}" for name, value in headers.items()]
        self._errors = (websocket.WebSocketException, ValueError)
        self._timeout = websocket.WebSocketTimeoutException
        self._socket: Any = self._checked(
            lambda: websocket.create_connection(
                url, header=lines, socket=sock, timeout=CONNECT_SECONDS
            )
        )

    def send(self, text: str) -> None:
        """Send one message."""
        self._checked(lambda: self._socket.send(text))

    def receive(self, seconds: float) -> str:
        """Return the next message."""
        self._socket.settimeout(seconds)
        return str(self._checked(self._socket.recv))

    def close(self) -> None:
        """Close the connection."""
        self._socket.close(timeout=1)

    def _checked(self, call: Callable[[], Any]) -> Any:  # noqa: ANN401
        try:
            return call()
        except self._timeout as error:
            raise TimeoutError(str(error)) from None
        except self._errors as error:
            raise OSError(f"the websocket broke off: {error}") from None


class Server(Protocol):
    """A Jupyter server, with a login."""

    def ask(self, method: str, path: str, body: str = "") -> tuple[int, str]:
        """Return status and text of the answer."""

    def open(self, path: str) -> WebSocket:
        """Return an open websocket."""


class CellError(Exception):
    """The notebook did not run the cell; the message has the expected and the actual result."""


def compute_in_notebook(server: Server, workers: int) -> dict[str, Any]:
    """Compute on all workers in a new kernel, and delete the kernel; return the cell's result.

    Raises `CellError`, or `OSError` if the server does not answer.
    """
    status, text = server.ask("POST", "/api/kernels", json.dumps({"name": "python3"}))
    if status != 201:
        raise CellError(f"the notebook did not start a kernel: expected 201, found {status}")
    kernel = json.loads(text)["id"]
    try:
        return check_result(parse(run_cell(server, kernel, cell_code(workers))), workers)
    finally:
        server.ask("DELETE", f"/api/kernels/{kernel}")


def cell_code(workers: int) -> str:
    """Return the code of the cell."""
    return CELL.format(
        workers=workers,
        seconds=CELL_SECONDS // 2,
        busy_seconds=BUSY_SECONDS,
        priority=PRIORITY,
        mark=MARK,
    )


def run_cell(server: Server, kernel: str, code: str) -> str:
    """Return what a cell prints; raises `CellError` if it fails or takes too long."""
    session = uuid.uuid4().hex
    socket = server.open(f"/api/kernels/{kernel}/channels?session_id={session}")
    end = time.monotonic() + CELL_SECONDS
    try:
        socket.send(json.dumps(request(session, code)))
        printed = ""
        while True:
            message = json.loads(socket.receive(max(end - time.monotonic(), 0.01)))
            if message["parent_header"].get("msg_id") != session:
                continue
            content = message["content"]
            if message["msg_type"] == "stream":
                printed += content["text"]
            if message["msg_type"] == "error":
                raise CellError(f"a cell of the notebook failed: {error_text(content, printed)}")
            if content.get("execution_state") == "idle":
                return printed
    except TimeoutError:
        raise CellError(f"a cell of the notebook did not end within {CELL_SECONDS} s") from None
    finally:
        socket.close()


def request(session: str, code: str) -> dict[str, Any]:
    """Return the message that runs code in a kernel; its id is the session's id."""
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


def error_text(content: Mapping[str, Any], printed: str) -> str:
    """Return a cell's error in one line, with the end of its output."""
    before = f"; before, it printed {printed[-200:]!r}" if printed else ""
    return f"{content['ename']}: {content['evalue']}{before}"


def parse(printed: str) -> dict[str, Any]:
    """Return the cell's result; raises `CellError` if it printed something else."""
    lines = [line for line in printed.splitlines() if line.startswith(MARK)]
    if not lines:
        raise CellError(f"a cell of the notebook printed {printed[-200:]!r} instead of its result")
    result: dict[str, Any] = json.loads(lines[-1].removeprefix(MARK))
    return result


def check_result(result: dict[str, Any], workers: int) -> dict[str, Any]:
    """Return the number of workers that computed, and a message for each busy worker.

    Raises `CellError` unless all other workers computed.
    """
    if result["mismatches"]:
        raise CellError(
            "the notebook's versions are not the cluster's; remove packages that users have "
            f"installed in its home: {result['mismatches'][0]}"
        )
    busy = result["busy"]
    computed = workers - len(busy)
    if result["workers"] != workers or result["sums"] != [45] * computed:
        raise CellError(
            f"expected Client() in the notebook to compute on {workers} workers, found {result}"
        )
    listed = [f"{worker} runs {tasks}" for worker, tasks in sorted(busy.items())]
    return {"workers": computed, **({"busy": listed} if busy else {})}
