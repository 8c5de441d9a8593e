"""From this machine's engine to a newer engine, a node at a time, under a computation.

The nodes keep the newer engine, which has changed their files: take the lab down afterwards.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial

import docker

from bench.arms import succeed
from bench.context import Context
from bench.faults import drained, restart
from bench.recovery import WORKERS
from bench.under_computation import under_computation
from lab.layout import DEBIAN, Lab, Node

BLOCKS, TASKS = 48, 96


def engines(context: Context, rounds: int) -> Iterator[str]:  # noqa: ARG001  there is one way
    """Yield the table of losses; raises `RuntimeError` if the cluster is not proven afterwards."""
    lab = context.lab
    rows = [f"{'A newer engine on a node':32}{'lost blocks':>16}{'repeated tasks':>16}"]
    with context.deployed(context.stacks[-1]):
        for node in lab.nodes[1:]:
            before = version(node)
            report = under_computation(
                lab.docker_host, WORKERS, BLOCKS, TASKS, partial(upgrade_drained, lab, node)
            )
            if not report["right"]:
                raise RuntimeError(f"wrong results after {version(node)} on {node.hostname}")
            lost = f"{report['lost_blocks']} of {report['blocks']}"
            repeated = f"{report['repeated_tasks']} of {report['tasks']}"
            what = f"{node.hostname}, {before} to {version(node)}"
            rows.append(f"  {what:30}{lost:>16}{repeated:>16}")
            succeed(context.runner, "up")
        upgrade(lab, lab.master)  # which has the scheduler and the client
        succeed(context.runner, "up")
    yield "\n".join(rows)


def upgrade_drained(lab: Lab, node: Node) -> None:
    """Give a drained data node the newer engine."""
    with drained(lab, node):
        upgrade(lab, node)


def upgrade(lab: Lab, node: Node) -> None:
    """End a node's engine, and start the newer engine on its files."""
    restart(replace(lab, engine=DEBIAN), node)


def version(node: Node) -> str:
    """Return the version of a node's engine."""
    with closing(docker.DockerClient(node.docker_host)) as engine:
        return str(engine.version()["Version"])
