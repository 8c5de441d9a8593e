"""From the command to the proven cluster, ours against the original, and an `up` of no change."""

from collections.abc import Iterator

import yaml

from bench.arms import Arm, Baseline, Deploying, Repeating
from bench.context import Context, wait_until_empty
from bench.measure import measure, report
from lab.runners import ROOT, PulumiCli


def deploying(context: Context, rounds: int) -> Iterator[str]:
    """Yield the table of deployments, each from a Swarm whose nodes have the images."""
    baseline = Baseline(docker_host=context.lab.docker_host, images=context.images)
    arms: list[Arm] = [baseline, *(Deploying(runner=each) for each in context.runners)]
    seconds = measure(arms, rounds, before_each=lambda: wait_until_empty(context.lab))
    yield report("Seconds from the command to a proven cluster", seconds)


def no_op(context: Context, rounds: int) -> Iterator[str]:
    """Yield the table of an `up` that changes nothing, over the CLI's own floor."""
    ours = context.runner
    if not isinstance(ours, PulumiCli):
        return
    floor = _empty_program(context, ours)
    Deploying(runner=ours).run()
    try:
        arms = [
            Repeating(name="a program without resources", runner=floor),
            Repeating(name="this program", runner=ours),
        ]
        yield report("Seconds for an up that changes nothing", measure(arms, rounds))
    finally:
        Deploying(runner=ours).undo()


def _empty_program(context: Context, ours: PulumiCli) -> PulumiCli:
    project = context.folder / "floor"
    project.mkdir()
    environment = {"virtualenv": str(ROOT / ".venv")}
    settings = {"name": "floor", "runtime": {"name": "python", "options": environment}}
    (project / "Pulumi.yaml").write_text(yaml.safe_dump(settings))
    (project / "__main__.py").write_text("")
    floor = PulumiCli(stack="floor", cli=ours.cli, settings=ours.settings, project=project)
    floor.create()
    return floor
