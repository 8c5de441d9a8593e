"""From a fault to four workers that compute again, ours against the original stack."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import docker

from bench import workers_back
from bench.arms import Arm, Baseline, Deploying
from bench.context import Context, wait_until_empty
from bench.measure import report
from lab.layout import Lab

PROGRAM = Path(workers_back.__file__).read_text()
WORKERS = 4
Container = Any  # docker is typed in part only


def recovery(context: Context, rounds: int) -> Iterator[str]:
    """Yield a table for each fault; the stacks take turns, since they share their names."""
    lab = context.lab
    baseline = Baseline(docker_host=lab.docker_host, images=context.images)
    arms: tuple[Arm, ...] = (baseline, Deploying(runner=context.runner))
    found: dict[str, dict[str, list[float]]] = {}
    for arm in arms:
        wait_until_empty(lab)
        try:
            arm.run()
            for fault, strike in FAULTS.items():
                seconds = [_seconds_after(lab, strike) for _ in range(rounds)]
                found.setdefault(fault, {})[arm.name] = seconds
        finally:
            arm.undo()
    for fault, seconds_of in found.items():
        yield report(f"Seconds to four workers: {fault}", seconds_of)


def _seconds_after(lab: Lab, strike: Callable[[Lab], None]) -> float:
    with closing(docker.DockerClient(lab.docker_host)) as engine:
        (notebook,) = _containers(engine, "dask_notebook")
    enter = ["docker", "--host", lab.docker_host, "exec", notebook.id, "python", "-c", PROGRAM]
    with subprocess.Popen([*enter, str(WORKERS)], stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None  # noqa: S101
        watching.stdout.readline()
        start = time.time()
        strike(lab)
        return float(watching.stdout.readline()) - start


def _kill_worker_process(lab: Lab) -> None:
    with closing(docker.DockerClient(lab.nodes[1].docker_host)) as engine:
        worker = _containers(engine, "dask_worker")[0]
        os.kill(_worker_process(worker.top(ps_args="-eo pid,ppid")["Processes"]), signal.SIGKILL)


def _worker_process(processes: Sequence[Sequence[str]]) -> int:
    """Return the process that no other one descends from: a nanny's worker, or the only one."""
    parents = {parent for _, parent in processes}
    return max(int(process) for process, _ in processes if process not in parents)


def _kill_worker_container(lab: Lab) -> None:
    with closing(docker.DockerClient(lab.nodes[1].docker_host)) as engine:
        _containers(engine, "dask_worker")[0].kill()


def _stop_scheduler(lab: Lab) -> None:
    with closing(docker.DockerClient(lab.docker_host)) as engine:
        _containers(engine, "dask_scheduler")[0].kill(signal="SIGTERM")


def _kill_scheduler(lab: Lab) -> None:
    with closing(docker.DockerClient(lab.docker_host)) as engine:
        _containers(engine, "dask_scheduler")[0].kill()


def _containers(engine: "docker.DockerClient", service: str) -> list[Container]:
    label = f"com.docker.swarm.service.name={service}"
    return list(engine.containers.list(filters={"label": label}))


FAULTS: dict[str, Callable[[Lab], None]] = {
    "a worker's process is killed": _kill_worker_process,
    "a worker's container is killed": _kill_worker_container,
    "the scheduler is stopped": _stop_scheduler,
    "the scheduler is killed": _kill_scheduler,
}
