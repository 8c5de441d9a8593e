"""From the command to the proven cluster, ours against the original."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.arms import Arm, Baseline, Deploying
from bench.context import Context, configure, wait_until_empty
from bench.measure import measure, report


@dataclass(frozen=True, kw_only=True)
class Configured(Deploying):
    """The program from an empty Swarm to its proof, with another value of a config key."""

    config_file: Path
    key: str
    value: str | bool

    @property
    def name(self) -> str:
        """The runner's name and the value."""
        return f"{super().name}, {self.key} {str(self.value).lower()}"

    def run(self) -> None:
        """Deploy with this value."""
        configure(self.config_file, {self.key: self.value})
        super().run()


def deploying(context: Context, rounds: int) -> Iterator[str]:
    """Yield the table of deployments on nodes that have the images."""
    ours = [
        Configured(runner=runner, config_file=context.config_file, key="proof", value=proof)
        for runner in context.runners
        for proof in ("quick", "full")
    ]
    arms: list[Arm] = [Baseline(docker_host=context.lab.docker_host, images=context.images), *ours]
    seconds = measure(arms, rounds, before_each=lambda: wait_until_empty(context.lab))
    yield report("Seconds from the command to a proven cluster", seconds)
