"""From 4 workers to 16 and back, and the losses of a computation, with and without the preload."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import docker

from bench.arms import succeed
from bench.context import Context, configure
from bench.under_computation import under_computation

FEW, MANY = 4, 16
BLOCKS, TASKS = 48, 96
# Small enough for eight on a node of two CPUs.
LIMITS = {"workerCpus": "0.25", "workerMemory": "256MiB", "workersPerNode": MANY // 2}
SECONDS = 180

Json = dict[str, Any]
Service = Any  # docker is typed in part only


def scaling(context: Context, rounds: int) -> Iterator[str]:
    """Yield the tables; the arm without the preload shows no times and has one round."""
    _resize(context, FEW)
    with context.deployed(context.stacks[-1]):
        grown, shrunk, kept = zip(*(_there_and_back(context) for _ in range(rounds)), strict=True)
        bare = _without_preload(context)
    proven = [_row(f"{FEW} to {MANY} workers", grown), _row(f"{MANY} to {FEW} workers", shrunk)]
    head = f"{f'Seconds to a proven cluster, {context.runner.name}':48}{'min':>7}{'max':>7}"
    work = [_lost("with the preload", losses) for losses in kept]
    yield "\n".join([head, *proven])
    yield "\n".join([LOST_HEAD, *work, _lost("without it", bare)])


def _resize(context: Context, workers: int) -> None:
    configure(context.config_file, LIMITS | {"workers": workers})


def _there_and_back(context: Context) -> tuple[float, float, Json]:
    grown = _seconds_to_proof(context, MANY)
    shrunk: list[float] = []
    losses = _computing(context, lambda: shrunk.append(_seconds_to_proof(context, FEW)))
    return grown, shrunk[0], losses


def _seconds_to_proof(context: Context, workers: int) -> float:
    _resize(context, workers)
    start = time.monotonic()
    succeed(context.runner, "up")
    seconds = time.monotonic() - start
    print(f"{workers} workers proven in {seconds:.1f} s", file=sys.stderr)
    return seconds


def _without_preload(context: Context) -> Json:
    """Scale by hand like `up`, with workers that have no preload."""
    with closing(docker.DockerClient(context.lab.docker_host)) as manager:
        service: Service = manager.services.list(filters={"name": "dask_worker"})[0]
        arguments = service.attrs["Spec"]["TaskTemplate"]["ContainerSpec"]["Args"]
        place = arguments.index("--preload")
        service.update(args=[*arguments[:place], *arguments[place + 2 :]], fetch_current_spec=True)
        _wait_until("new workers", lambda: sum(map(_is_bare, _running(service))) == FEW)
        _scale(service, MANY)
        return _computing(context, lambda: _scale(service, FEW))


def _computing(context: Context, change: Callable[[], None]) -> Json:
    return under_computation(context.lab.docker_host, MANY, BLOCKS, TASKS, change)


def _scale(service: Service, workers: int) -> None:
    service.reload()
    service.scale(workers)
    _wait_until(f"{workers} workers", lambda: len(_running(service)) == workers)


def _running(service: Service) -> list[Json]:
    # A task that is ending counts until its end.
    return [task for task in service.tasks() if task["Status"]["State"] == "running"]


def _is_bare(task: Json) -> bool:
    return "--preload" not in task["Spec"]["ContainerSpec"]["Args"]


def _wait_until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {what} after {SECONDS} s")
        time.sleep(0.1)


def _row(name: str, seconds: tuple[float, ...]) -> str:
    return f"  {name:46}{min(seconds):7.1f}{max(seconds):7.1f}"


LOST_HEAD = (
    f"{f'Work when {MANY} workers become {FEW}':34}{'lost':>9}{'moved':>11}{'repeated':>16}"
)


def _lost(name: str, losses: Json) -> str:
    lost = f"{losses['lost_blocks']}/{losses['blocks']}"
    moved = f"{losses['moved_bytes'] / 2**20:.0f} MiB"
    return f"  {name:32}{lost:>9}{moved:>11}{losses['repeated_tasks']:>10} tasks"
