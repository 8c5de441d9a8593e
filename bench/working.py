"""Work on the deployed cluster, ours against the original stack with the same image."""

import json
from collections.abc import Iterator
from pathlib import Path

from bench.arms import Arm, Baseline, Deploying
from bench.context import Context, run_in_notebook, wait_until_empty
from bench.measure import report

# Not imported here: it needs what only the images have.
PROGRAM = Path(__file__).with_name("workloads.py").read_text()
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
        printed = run_in_notebook(docker_host, PROGRAM, SECONDS)
        found: dict[str, float] = json.loads(printed.splitlines()[-1])
        return found
    finally:
        arm.undo()
