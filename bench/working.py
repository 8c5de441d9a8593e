"""Work on the deployed cluster, ours against the original stack with the same image."""

import json
from collections.abc import Iterator
from pathlib import Path

from bench.context import Context, run_in_notebook
from bench.measure import report

# Not imported here: only the images have its packages.
PROGRAM = Path(__file__).with_name("workloads.py").read_text()
SECONDS = 900  # for all workloads once


def working(context: Context, rounds: int) -> Iterator[str]:
    """Yield a table for each workload."""
    by_workload: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for stack in context.stacks:
            with context.deployed(stack):
                printed = run_in_notebook(
                    context.lab.docker_host, "the workloads", PROGRAM, SECONDS
                )
            for workload, seconds in json.loads(printed.splitlines()[-1]).items():
                by_workload.setdefault(workload, {}).setdefault(stack.name, []).append(seconds)
    for workload, seconds_by_stack in by_workload.items():
        yield report(f"Seconds for {workload}", seconds_by_stack)
