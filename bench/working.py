"""Work on the deployed cluster, ours against the original stack with the same image."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import docker

from bench import workloads
from bench.arms import Arm, Baseline, Deploying
from bench.context import Context, wait_until_empty
from bench.measure import report

PROGRAM = Path(workloads.__file__).read_text()
SECONDS = 900  # for all workloads once


def working(context: Context, rounds: int) -> Iterator[str]:
    """Yield a table for each workload; the stacks take turns, since they share their names."""
    lab = context.lab
    baseline = Baseline(docker_host=lab.docker_host, images=context.images)
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        arms: tuple[Arm, ...] = (baseline, Deploying(runner=context.runner))
        for arm in arms:
            wait_until_empty(lab)
            for workload, seconds in _measured(arm, lab.docker_host).items():
                found.setdefault(workload, {}).setdefault(arm.name, []).append(seconds)
    for workload, seconds_of in found.items():
        yield report(f"Seconds for {workload}", seconds_of)


def _measured(arm: Arm, docker_host: str) -> dict[str, float]:
    try:
        arm.run()
        enter = ["docker", "--host", docker_host, "exec", _notebook(docker_host)]
        done = subprocess.run(
            [*enter, "timeout", str(SECONDS), "python", "-c", PROGRAM],
            check=True,
            text=True,
            stdout=subprocess.PIPE,
            timeout=SECONDS + 10,
        )
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return found
    finally:
        arm.undo()


def _notebook(docker_host: str) -> str:
    with closing(docker.APIClient(docker_host)) as engine:
        wanted = {"label": "com.docker.swarm.service.name=dask_notebook"}
        (notebook,) = engine.containers(filters=wanted)
    return str(notebook["Id"])
