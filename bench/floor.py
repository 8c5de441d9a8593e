"""The cost of an `up` and of previews without a change, over the floor.

The floor is the CLI's own time: the same command for a program without resources. An offline
preview sends no request. Without a record of the stack it uses tags instead of digests, which
takes the same time.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import yaml

from bench.arms import Repeating
from bench.context import Context
from bench.measure import measure, report
from swarm.offline import OFFLINE
from tools.runners import ROOT, PulumiRunner


def floor(context: Context, rounds: int) -> Iterator[str]:
    """Yield the times of an up and of previews, if there is a Pulumi CLI."""
    ours = context.runner
    if not isinstance(ours, PulumiRunner):
        return
    empty = _empty_program(context.folder, ours)
    with context.deployed(context.stacks[-1]):
        for title, arms in _arms(empty, ours).items():
            yield report(title, measure(arms, rounds))


def _arms(empty: PulumiRunner, ours: PulumiRunner) -> dict[str, list[Repeating]]:
    offline = replace(ours, settings={**ours.settings, OFFLINE: "1"})
    floor_name = "a program without resources"
    return {
        "Seconds for an up that changes nothing": [
            Repeating(name=floor_name, runner=empty),
            Repeating(name="this program", runner=ours),
        ],
        "Seconds for a preview": [
            Repeating(name=floor_name, runner=empty, action="preview"),
            Repeating(
                name="this program, offline",
                runner=offline,
                action="preview",
                options=tuple(offline.offline),
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
