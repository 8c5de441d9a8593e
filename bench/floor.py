"""What nothing costs: an `up` and previews of a deployment that is as declared, over the floor.

The floor is the CLI's own: the same command for a program without resources. A preview offline
asks nobody; without a record of the stack it takes tags for digests, which costs the same time.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import yaml

from bench.arms import Deploying, Repeating
from bench.context import Context, wait_until_empty
from bench.measure import measure, report
from swarm.offline import OFFLINE
from tools.runners import ROOT, PulumiRunner


def floor(context: Context, rounds: int) -> Iterator[str]:
    """Yield what an up and the previews take, where there is a Pulumi CLI."""
    ours = context.runner
    if not isinstance(ours, PulumiRunner):
        return
    empty = _empty_program(context.folder, ours)
    wait_until_empty(context.lab)
    Deploying(runner=ours).run()
    try:
        for title, arms in _arms(empty, ours).items():
            yield report(title, measure(arms, rounds))
    finally:
        Deploying(runner=ours).undo()


def _arms(empty: PulumiRunner, ours: PulumiRunner) -> dict[str, list[Repeating]]:
    nobody = replace(ours, settings={**ours.settings, OFFLINE: "1"})
    nothing = "a program without resources"
    return {
        "Seconds for an up that changes nothing": [
            Repeating(name=nothing, runner=empty),
            Repeating(name="this program", runner=ours),
        ],
        "Seconds for a preview": [
            Repeating(name=nothing, runner=empty, action="preview"),
            Repeating(
                name="this program, offline",
                runner=nobody,
                action="preview",
                options=tuple(nobody.offline),
            ),
            Repeating(
                name="this program, with refresh",
                runner=ours,
                action="preview",
                options=("--refresh", "--expect-no-changes"),
            ),
        ],
    }


def _empty_program(folder: Path, ours: PulumiRunner) -> PulumiRunner:
    project = folder / "floor"
    project.mkdir()
    environment = {"virtualenv": str(ROOT / ".venv")}
    settings = {"name": "floor", "runtime": {"name": "python", "options": environment}}
    (project / "Pulumi.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    (project / "__main__.py").write_text("", encoding="utf-8")
    empty = PulumiRunner(stack="floor", cli=ours.cli, settings=ours.settings, project=project)
    empty.create()
    return empty
