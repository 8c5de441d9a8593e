"""Work on the deployed cluster: ours against the original stack, and with TLS against without."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.arms import Arm
from bench.context import Context, run_in_notebook
from bench.deploying import Configured
from bench.measure import report

# Not imported here: only the images have its packages.
PROGRAM = Path(__file__).with_name("workloads.py").read_text()
SECONDS = 900  # for all workloads once


def working(context: Context, rounds: int) -> Iterator[str]:
    """Yield a table for each workload, ours against the original."""
    return compare(context, rounds, context.stacks)


def encryption(context: Context, rounds: int) -> Iterator[str]:
    """Yield a table for each workload, and for the deployment, without and with TLS."""
    plain, encrypted = (
        Configured(runner=context.runner, config_file=context.config_file, key="tls", value=value)
        for value in (False, True)
    )
    return compare(context, rounds, (plain, encrypted))


def compare(context: Context, rounds: int, stacks: Sequence[Arm]) -> Iterator[str]:
    """Yield a table for the deployment and for each workload."""
    by_workload: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for stack in stacks:
            with context.deployed(stack) as deployed_in:
                printed = run_in_notebook(
                    context.lab.docker_host, "the workloads", PROGRAM, SECONDS
                )
            measured = {"the deployment": deployed_in, **json.loads(printed.splitlines()[-1])}
            for workload, seconds in measured.items():
                by_workload.setdefault(workload, {}).setdefault(stack.name, []).append(seconds)
    for workload, seconds_by_stack in by_workload.items():
        yield report(f"Seconds for {workload}", seconds_by_stack)
