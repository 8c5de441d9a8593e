"""From a fault to four workers that compute again, ours against the original stack."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import docker

from bench import workers_back
from bench.context import Context, containers_of, in_notebook
from bench.measure import report
from lab.layout import Lab

PROGRAM = Path(workers_back.__file__).read_text()
WORKERS = 4
SECONDS = 270  # longer than the program's two waits for four workers


def recovery(context: Context, rounds: int) -> Iterator[str]:
    """Yield a table for each fault."""
    seconds_by_fault: dict[str, dict[str, list[float]]] = {fault: {} for fault in FAULTS}
    for stack in context.stacks:
        with context.deployed(stack):
            for fault, strike in FAULTS.items():
                seconds = [seconds_after(context.lab, strike) for _ in range(rounds)]
                print(f"{stack.name}, {fault}: {seconds}", file=sys.stderr)
                seconds_by_fault[fault][stack.name] = seconds
    for fault, seconds_by_stack in seconds_by_fault.items():
        yield report(f"Seconds to four workers: {fault}", seconds_by_stack)


def seconds_after(lab: Lab, strike: Callable[[Lab], None]) -> float:
    """Return the seconds from a fault until four workers compute again."""
    command = in_notebook(lab.docker_host, PROGRAM, SECONDS, str(WORKERS))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        _line(watching, "four workers before a fault")
        start = time.time()
        strike(lab)
        return float(_line(watching, "four workers after a fault")) - start


def _line(watching: "subprocess.Popen[str]", what: str) -> str:
    assert watching.stdout is not None  # noqa: S101
    if line := watching.stdout.readline():
        return line
    raise TimeoutError(f"{what}: not reached when the program in the notebook ended")


def _kill_worker_process(lab: Lab) -> None:
    with closing(docker.DockerClient(lab.nodes[1].docker_host)) as engine:
        container = containers_of(engine, "dask_worker")[0]
        processes = container.top(ps_args="-eo pid,ppid")["Processes"]
        os.kill(worker_process(container.attrs["State"]["Pid"], processes), signal.SIGKILL)


def worker_process(first: int, processes: Sequence[Sequence[str]]) -> int:
    """Return the last descendant of a container's first process.

    It is a nanny's worker, or the only process. A health check is no descendant.
    """
    while children := [int(pid) for pid, parent in processes if int(parent) == first]:
        first = max(children)
    return first


def kill_worker_container(lab: Lab) -> None:
    """Kill a worker's container; the Swarm starts another one."""
    with closing(docker.DockerClient(lab.nodes[1].docker_host)) as engine:
        containers_of(engine, "dask_worker")[0].kill()


def _stop_scheduler(lab: Lab) -> None:
    with closing(docker.DockerClient(lab.docker_host)) as engine:
        containers_of(engine, "dask_scheduler")[0].kill(signal="SIGTERM")


def _kill_scheduler(lab: Lab) -> None:
    with closing(docker.DockerClient(lab.docker_host)) as engine:
        containers_of(engine, "dask_scheduler")[0].kill()


FAULTS: dict[str, Callable[[Lab], None]] = {
    "a worker's process is killed": _kill_worker_process,
    "a worker's container is killed": kill_worker_container,
    "the scheduler is stopped": _stop_scheduler,
    "the scheduler is killed": _kill_scheduler,
}
