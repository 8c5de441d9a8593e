"""From the command to the proven cluster, ours against the original."""

from collections.abc import Iterator

from bench.arms import Arm, Baseline, Deploying
from bench.context import Context, wait_until_empty
from bench.measure import measure, report


def deploying(context: Context, rounds: int) -> Iterator[str]:
    """Yield the table of deployments, each from a Swarm whose nodes have the images."""
    baseline = Baseline(docker_host=context.lab.docker_host, images=context.images)
    arms: list[Arm] = [baseline, *(Deploying(runner=each) for each in context.runners)]
    seconds = measure(arms, rounds, before_each=lambda: wait_until_empty(context.lab))
    yield report("Seconds from the command to a proven cluster", seconds)
