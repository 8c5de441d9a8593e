"""From a fault to four workers that compute again, ours against the original stack."""

import json
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

from docker.errors import DockerException
from requests.exceptions import RequestException

from bench import observer
from bench.context import Context, in_notebook
from bench.faults import FAULTS, SECONDS, Fault
from bench.measure import report
from lab.layout import Lab

PROGRAM = Path(observer.__file__).read_text()
WORKERS = 4

Members = frozenset[str]


def recovery(context: Context, rounds: int) -> Iterator[str]:
    """Yield a table for each fault that the original stack survives too."""
    faults = [fault for fault in FAULTS if fault.original]
    seconds_by_fault: dict[str, dict[str, list[float]]] = {fault.what: {} for fault in faults}
    for stack in context.stacks:
        with context.deployed(stack):
            for fault in faults:
                seconds = [seconds_after(context.lab, fault) for _ in range(rounds)]
                print(f"{stack.name}, {fault.what}: {seconds}", file=sys.stderr)
                seconds_by_fault[fault.what][stack.name] = seconds
    for what, seconds_by_stack in seconds_by_fault.items():
        yield report(f"Seconds to four workers: {what}", seconds_by_stack)


def seconds_after(lab: Lab, fault: Fault) -> float:
    """Return the seconds from the start of a fault until four workers compute again."""
    with ThreadPoolExecutor() as pool, closing(observed(lab)) as states:
        before = next(members for _, members in states if len(members) == WORKERS)
        start, struck = time.time(), pool.submit(fault.strike, lab)

        def is_back(state: tuple[float, Members]) -> bool:
            is_over = struck.done() and struck.result() is None
            is_new = state[1] != before or fault.keeps_members
            return is_over and is_new and len(state[1]) == WORKERS

        return next(filter(is_back, states))[0] - start


def observed(lab: Lab) -> Generator[tuple[float, Members], None, None]:
    """Yield the time and the workers that compute, again and again.

    Raises `TimeoutError` after `SECONDS`. The notebook, where the observer runs, may be lost.
    """
    deadline = time.monotonic() + SECONDS
    while (left := int(deadline - time.monotonic())) > 0:
        try:
            command = in_notebook(lab.docker_host, PROGRAM, left)
        except (ValueError, DockerException, RequestException):
            time.sleep(0.5)
            continue
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as program:
            try:
                for line in program.stdout or ():
                    # The end of the notebook leaves a part of a line.
                    with suppress(json.JSONDecodeError):
                        state = json.loads(line)
                        yield state["at"], frozenset(state["members"])
            finally:
                program.kill()  # its end closes the observer's input, and so ends the observer
        yield time.time(), frozenset()
    raise TimeoutError(f"four workers do not compute {SECONDS} s after the start")
