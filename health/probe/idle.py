"""Waits until the scheduler has no task that runs or waits.

It asks the scheduler's dashboard, so it needs no certificate. That side of Dask has no TLS.
"""

import json
import time
from http.client import HTTPConnection, HTTPException

from .messages import say

PATH = "/json/counts.json"
ANSWER_SECONDS = 5
PAUSE_SECONDS = 0.25
# A program that submits one task after the other has none for a moment.
QUIET_SECONDS = 3


def main(argument: str) -> None:
    """Run the request in JSON: `host`, `port` and `seconds`; print the outcome."""
    request = json.loads(argument)
    busy = wait_until_idle(request["host"], request["port"], request["seconds"])
    if busy:
        say(failure=busy)
    else:
        say(proof={"idle": True})


def wait_until_idle(host: str, port: int, seconds: float) -> str:
    """Return the state of the scheduler after `seconds`, empty once it is idle."""
    end, quiet_since, shown = time.monotonic() + seconds, None, ""
    while True:
        busy = ask(host, port)
        now = time.monotonic()
        if busy:
            quiet_since = None
        elif quiet_since is None:
            quiet_since = now
        elif now - quiet_since >= QUIET_SECONDS:
            return ""
        if busy and now > end:
            return busy
        if busy != shown:
            shown = busy
            say(progress=busy or "no task runs or waits")
        time.sleep(PAUSE_SECONDS)


def ask(host: str, port: int) -> str:
    """Return what the scheduler still does, or why it does not answer; empty if it is idle."""
    connection = HTTPConnection(host, port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", PATH)
        answer = connection.getresponse()
        if answer.status != 200:
            return f"http://{host}:{port}{PATH} answers {answer.status}"
        return describe(json.load(answer))
    except (OSError, HTTPException, ValueError) as error:
        return f"http://{host}:{port}{PATH} does not answer ({error})"
    finally:
        connection.close()


def describe(counts: "dict[str, int]") -> str:
    """Return `2 tasks run, 14 wait`, empty without tasks."""
    running, waiting = counts["processing"], counts["waiting"] + counts["unrunnable"]
    return f"{running} tasks run, {waiting} wait" if running or waiting else ""
