"""`make up`, `make preview`, `make destroy`: the program is run and its proof printed."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from lab.runners import runner_for, say


def summary(outputs: dict[str, Any], token_command: str) -> str:
    """Return what a person wants to know after a deployment, from the stack's outputs."""
    health = outputs["health"]
    nodes = ", ".join(f"{node} {count}" for node, count in sorted(health["nodes"].items()))
    versions = ", ".join(f"{name} {number}" for name, number in health["versions"].items())
    total = f"threads {health['threads']}, memory {health['memory_bytes'] / 2**30:.2f} GiB"
    lines = [
        f"Proven in {health['seconds']:.1f} s: workers {health['workers']}, {total}",
        f"  workers on {nodes}; {versions}",
        f"  scheduler  {outputs['scheduler_address']}",
        f"  dashboard  {outputs['dashboard_url']}",
        f"  notebook   {outputs['notebook_url']}",
        f"  token      {token_command}",
    ]
    if outputs.get("login_user"):
        password = token_command.replace("notebook_token", "login_password")
        lines += [f"  login      {outputs['login_user']}", f"  password   {password}"]
    if front := health.get("front"):
        lines.insert(2, f"  front      {_front(front)}")
    return "\n".join(lines)


def _front(front: dict[str, Any]) -> str:
    opened = "opens with it" if front["login_tried"] else "not tried with it"
    if front["auth"] == "none":
        return "answers, open to this machine"
    return f"closed without the {front['auth']} login, {opened}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one action and, after a successful `up`, print the proof."""
    parser = argparse.ArgumentParser(prog="python -m lab.deploy", description=__doc__)
    parser.add_argument("action", choices=["up", "preview", "destroy"])
    parser.add_argument("--stack", default="dev")
    chosen = parser.parse_args(arguments)
    runner = runner_for(chosen.stack)
    try:
        runner.create()
    except RuntimeError as error:
        say(str(error))
        return 1
    status = runner.run(chosen.action).returncode
    if status == 0 and chosen.action == "up":
        print(summary(runner.outputs(), runner.token_command()))
    return status


if __name__ == "__main__":
    sys.exit(main())
