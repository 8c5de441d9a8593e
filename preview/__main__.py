"""`python -m preview`: report what a change of the program means, without asking the Swarm.

Works without Docker, state and secrets. With a checkout of what the change is based on (`--base`)
it tells what the program declares differently; with a backend (`PULUMI_BACKEND_URL`) also what the
engine would do to the deployed stack. Ends with 1 when a rule is broken or a preview fails.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from preview.difference import difference
from preview.registered import Registered, UnreadableError, registered
from preview.rules import findings
from swarm.offline import OFFLINE, PROJECT
from tools.runners import runner_for


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the report; with `failed` the whole preview has."""

    title: str
    lines: Sequence[str]
    failed: bool = False


def report(sections: Sequence[Section]) -> str:
    """Return the text of all sections."""
    return "\n".join("\n".join([each.title, *each.lines, ""]) for each in sections)


def declared(head: Registered, base: Path | None, stack: str) -> Section:
    """Return what the program declares, or otherwise than in the checkout `base`."""
    if base is None:
        return Section(title=f"# Declared for {stack}", lines=difference([], head.resources))
    title = f"# What this change makes of the stack {stack}"
    try:
        before = registered(base, stack).resources
    except UnreadableError as error:
        last = str(error).splitlines()[-1].strip()
        why = f"# (without a comparison: what it is based on cannot be previewed: {last})"
        return Section(title=title, lines=[why, *difference([], head.resources)])
    lines = difference(before, head.resources)
    return Section(title=title, lines=lines or ["nothing: every resource is declared as before"])


def against_state(stack: str) -> Section:
    """Return what the engine says, asking the state's backend but no Swarm."""
    os.environ[OFFLINE] = "1"
    runner = runner_for(stack)
    done = runner.run("preview", *runner.offline, capture=True)
    lines = (done.stdout + done.stderr).splitlines()
    title = f"# What it would do to the deployed stack {stack} ({runner.name})"
    return Section(title=title, lines=lines, failed=bool(done.returncode))


def taken(head: Registered) -> Section:
    """Return which values the program took without asking."""
    return Section(title="# Taken without asking the Swarm", lines=head.told or ["nothing"])


def judged(head: Registered) -> Section:
    """Return which rules are broken."""
    broken = findings(head.resources)
    lines = [f"- {each}" for each in broken] or [f"kept by all {len(head.resources)} resources"]
    return Section(title="# Rules", lines=lines, failed=bool(broken))


def sections_of(stack: str, base: Path | None) -> list[Section]:
    """Return all of the report."""
    try:
        head = registered(PROJECT, stack)
    except UnreadableError as error:
        return [Section(title="# The program fails", lines=[str(error)], failed=True)]
    deployed = [against_state(stack)] if os.environ.get("PULUMI_BACKEND_URL") else []
    return [declared(head, base, stack), *deployed, taken(head), judged(head)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report, and keep it in a file if told to."""
    parser = argparse.ArgumentParser(prog="python -m preview", description=__doc__)
    parser.add_argument("--stack", default="dev")
    parser.add_argument("--base", type=Path, help="a checkout to compare with")
    parser.add_argument("--report", type=Path, help="a file for the report")
    chosen = parser.parse_args(arguments)
    base = chosen.base.resolve() if chosen.base else None
    sections = sections_of(chosen.stack, base)
    text = report(sections)
    print(text, end="")
    if chosen.report:
        chosen.report.write_text(text, encoding="utf-8")
    return int(any(each.failed for each in sections))


if __name__ == "__main__":
    sys.exit(main())
