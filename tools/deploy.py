"""Run the program for `make up`, `preview`, `destroy`, `record`, `drift` and `recover`.

`backup` and `restore` copy what the stack keeps in volumes.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pulumi.automation import CommandError

from config.types import spell_size
from swarm.offline import OFFLINE, RECORD
from tools.recovery import RecoveryError, recover, unlock
from tools.runners import CliMissingError, PulumiRunner, Runner, runner_for, say

NAMED_VERSIONS = ("dask", "distributed", "python")  # the same in every container
COPIES = ("backup", "restore")
DRIFT = ("--refresh", "--expect-no-changes", "--non-interactive")


def summary(outputs: dict[str, Any], command: Callable[[str], str]) -> str:
    """Return what a person wants to know after a deployment, from the stack's outputs.

    `command` returns the command that prints a secret output.
    """
    health = outputs["health"]
    nodes = ", ".join(f"{node} {count}" for node, count in sorted(health["nodes"].items()))
    versions = ", ".join(f"{name} {health['versions'][name]}" for name in NAMED_VERSIONS)
    total = f"threads {health['threads']}, memory {health['memory_bytes'] / 2**30:.2f} GiB"
    rows = [
        ("ingress", _ingress(health)),
        *(("not tried", busy) for busy in health.get("busy", ())),
        ("work", "; ".join(_work(health))),
        ("scheduler", outputs["scheduler_address"] + _certificates(health)),
        ("dashboard", outputs["dashboard_url"]),
        ("notebook", outputs["notebook_url"]),
        ("prefect", outputs.get("prefect_url")),
        ("token", command("notebook_token") if outputs.get("notebook_token") else ""),
        ("login", outputs.get("login_user")),
        ("password", command("login_password") if outputs.get("login_user") else ""),
    ]
    lines = [
        f"Proven in {health['seconds']:.1f} s: workers {health['workers']}, {total}",
        f"  workers on {nodes}; {versions}",
        *(f"  {name:11}{text}" for name, text in rows if text),
    ]
    return "\n".join(lines)


def _certificates(health: dict[str, Any]) -> str:
    certificates = health.get("certificates")
    if not certificates:
        return ", not encrypted"
    return f", certificates valid until {certificates['workers']['valid_until']}"


def _work(health: dict[str, Any]) -> list[str]:
    """Return what was done on the cluster as its users do it."""
    cell = health.get("cell") or health.get("front", {}).get("notebook", {}).get("cell")
    done = []
    if cell:
        done.append(f"a cell of the notebook computed on {cell['workers']} workers")
    if flow := health.get("prefect"):
        done.append(f"a Prefect flow of {flow['tasks']} tasks {flow['state']}")
    if store := health.get("object_store"):
        done.append(f"{spell_size(store['bytes'])} written to and read from {store['bucket']}")
    return done


def _ingress(health: dict[str, Any]) -> str:
    front = health.get("front")
    if not front:
        return ""
    opened = "opens with it" if front["login_tried"] else "not tried with it"
    if front["auth"] == "none":
        return "answers, open to this machine"
    return f"closed without the {front['auth']} login, {opened}"


def parser_of(module: str, description: str | None) -> argparse.ArgumentParser:
    """Return the parser of the options that every stack has."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    actions = ["up", "preview", "destroy", "record", "drift", "recover", *COPIES]
    parser.add_argument("action", choices=actions)
    parser.add_argument("--offline", action="store_true", help="preview without asking the Swarm")
    parser.add_argument("--backup", type=Path, help="the folder of a backup, or an archive in it")
    parser.add_argument("--from-stack", help="the stack that made the backup, if another one did")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one action by the Pulumi CLI and return the exit code."""
    parser = parser_of("tools.deploy", __doc__)
    parser.add_argument("--stack", default="dev")
    chosen = parser.parse_args(arguments)
    try:
        runner = runner_for(chosen.stack)
    except CliMissingError as error:
        say(str(error))
        return 1
    return run(runner, chosen)


def run(runner: Runner, chosen: argparse.Namespace) -> int:
    """Run the chosen action and return the exit code."""
    if chosen.action in COPIES:
        from tools import backup  # it takes a second, which the other actions need not wait

        return backup.run(
            runner, chosen.action, folder=chosen.backup, made_by=chosen.from_stack or runner.stack
        )
    return deploy(runner, chosen.action, offline=chosen.offline)


def deploy(runner: Runner, action: str, *, offline: bool = False) -> int:
    """Run one action and, after a successful `up`, print the proof; return the exit code."""
    try:
        runner.create()
    except CommandError as error:
        say(f"The stack can be neither selected nor created:{error}")
        return 1
    try:
        status = _run_recovered(runner, action, offline=offline)
    except RecoveryError as error:
        say(str(error))
        return 1
    if status == 0 and action == "up":
        print(summary(runner.outputs(), runner.output_command))
    return status


def _run_recovered(runner: Runner, action: str, *, offline: bool) -> int:
    """Run one action after the repair of what a killed deployment has left."""
    changes = action in ("up", "destroy", "recover")
    if changes and isinstance(runner, PulumiRunner):
        recover(runner, ends=action == "destroy")
    if action == "recover":
        return 0
    status = _run(runner, action, offline=offline)
    # A deployment that was killed between two creations has left its lock alone.
    if status and changes and isinstance(runner, PulumiRunner) and unlock(runner):
        return _run(runner, action, offline=offline)
    return status


def _run(runner: Runner, action: str, *, offline: bool) -> int:
    if action == "drift":
        return runner.run("preview", *DRIFT).returncode
    if action == "record":
        os.environ[RECORD] = "1"
        return runner.run("preview").returncode
    if offline and action == "preview":
        os.environ[OFFLINE] = "1"
        return runner.run("preview", *runner.offline).returncode
    return runner.run(action).returncode


if __name__ == "__main__":
    sys.exit(main())
