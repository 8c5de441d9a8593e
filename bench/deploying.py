"""From the command to the proven cluster, ours against the original."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from bench.arms import Arm, Baseline, Deploying
from bench.context import Context, wait_until_empty
from bench.measure import measure, report


@dataclass(frozen=True, kw_only=True)
class Proving(Deploying):
    """The program from an empty Swarm to its proof; `proof` is the value of the config key."""

    config_file: Path
    proof: str

    @property
    def name(self) -> str:
        """The runner's name and the proof."""
        return f"{super().name}, {self.proof} proof"

    def run(self) -> None:
        """Deploy with this proof."""
        stack = yaml.safe_load(self.config_file.read_text())
        stack["config"]["dask-swarm:proof"] = self.proof
        self.config_file.write_text(yaml.safe_dump(stack))
        super().run()


def deploying(context: Context, rounds: int) -> Iterator[str]:
    """Yield the table of deployments on nodes that have the images."""
    ours = [
        Proving(runner=runner, config_file=context.config_file, proof=proof)
        for runner in context.runners
        for proof in ("quick", "full")
    ]
    arms: list[Arm] = [Baseline(docker_host=context.lab.docker_host, images=context.images), *ours]
    seconds = measure(arms, rounds, before_each=lambda: wait_until_empty(context.lab))
    yield report("Seconds from the command to a proven cluster", seconds)
