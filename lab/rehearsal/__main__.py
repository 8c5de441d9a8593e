"""Run the Pulumi program on the lab's Swarm where the Pulumi engine cannot be had.

What the program declares is created or updated in place, and what it no longer declares is
deleted, as by `docker stack deploy`. This is not the Pulumi engine: nothing is encrypted, and a
preview only compares with the state. The state holds secrets as they are.
"""

import argparse
import json
import logging
import os
import signal
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pulumi
import yaml

from lab.config import load_config, secret_keys, stack_file
from lab.rehearsal import resources
from lab.rehearsal.certificates import is_due, without_renewal
from lab.rehearsal.commands import stop_scripts
from lab.rehearsal.program import Harness, Resource, run_program
from lab.rehearsal.state import State, state_file
from swarm.offline import OFFLINE, switched_on

BANNER = "*** REHEARSAL: this is not the Pulumi engine. It is for the lab alone. ***"


class Rehearsal:
    """Makes what the program declares, and deletes the rest."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.declared: set[str] = set()
        self.done: Counter[str] = Counter()

    def make(self, new: Resource) -> Resource:
        """Create a resource, update it in place, or leave it as it is."""
        if new.type.startswith("dask:"):  # a component
            return new
        try:
            action, made = self._create_or_update(new)
        except Exception as error:
            raise pulumi.RunError(f"{new.key}: {error}") from error
        self.declared.add(new.key)
        self.state.put(new.key, made)
        self._report(new.key, action)
        return made

    def _create_or_update(self, new: Resource) -> tuple[str, Resource]:
        old, preview = self.state.resources.get(new.key), self.state.preview
        if old and not preview:
            old = resources.look_up(replace(old, host=new.host))
        has_same_inputs = old and without_renewal(old.inputs) == without_renewal(new.inputs)
        if old and has_same_inputs and not is_due(new.inputs, old.outputs):
            action = "same" if old.inputs == new.inputs else "update"
            return action, replace(new, id=old.id, outputs=old.outputs)
        if old and resources.can_update(old, new):
            return "update", replace(new, id=old.id) if preview else resources.update(old, new)
        made = new if preview else resources.create(new)
        if old:  # to be deleted when nothing uses it any more
            self.state.put(f"{old.key}::{old.id}", old)
        return "create", made

    def delete_undeclared(self) -> None:
        """Delete what the program has not declared in this run."""
        undeclared = [key for key in self.state.resources if key not in self.declared]
        for key in sorted(undeclared, key=resources.delete_order):
            if not self.state.preview:
                resources.delete(self.state.resources[key])
            self.state.put(key, None)
            self._report(key, "delete")

    def _report(self, key: str, action: str) -> None:
        self.done[action] += 1
        print(f"  {key} {action}\n", end="", flush=True)


def run(rehearsal: Rehearsal, options: argparse.Namespace) -> None:
    """Run the program of the current directory, then delete what it no longer declares."""
    project = yaml.safe_load(Path("Pulumi.yaml").read_text(encoding="utf-8"))
    config_file = options.config_file or Path(f"Pulumi.{options.stack}.yaml")
    stack = stack_file(config_file, named=bool(options.config_file))
    rehearsal.state.outputs = run_program(
        Harness(rehearsal.make),
        Path("__main__.py"),
        load_config(project, stack, offline=switched_on(OFFLINE, os.environ)),
        secret_keys=secret_keys(stack),
        project=project["name"],
        stack=options.stack,
        preview=rehearsal.state.preview,
    )
    rehearsal.delete_undeclared()
    rehearsal.state.save()
    print("\nOutputs:")
    show(rehearsal.state, options)


def show(state: State, options: argparse.Namespace) -> None:
    """Print the stack's outputs as `pulumi stack output` would."""
    shown = state.shown(secrets=options.show_secrets)
    if options.name and options.name not in shown:
        sys.exit(f"error: the stack has no output {options.name}")
    value = shown[options.name] if options.name else shown
    print(
        value
        if isinstance(value, str)
        else json.dumps(value, indent=2, default=lambda _: "[unknown]")
    )


def _interrupt(*_: object) -> None:
    stop_scripts()
    raise KeyboardInterrupt


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lab.rehearsal", description=BANNER)
    parser.add_argument("command", choices=["up", "preview", "destroy", "output"])
    parser.add_argument("name", nargs="?", help="the one output to print")
    parser.add_argument("--stack", default="dev")
    parser.add_argument("--config-file", type=Path)
    parser.add_argument("--show-secrets", action="store_true")
    return parser.parse_args()


def main() -> int:
    """Run one command; return 0, 1 after an error, 130 after ^C."""
    options, start = _options(), time.monotonic()
    state = State(state_file(options.stack), preview=options.command == "preview")
    rehearsal = Rehearsal(state)
    if options.command == "output":
        show(state, options)
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # a failed run leaves tasks unawaited
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    print(BANNER, flush=True)
    status, message = _attempt(rehearsal, options)
    counts = ", ".join(f"{count} {action}" for action, count in rehearsal.done.items())
    print(f"\nResources: {counts or 'none'}, in {time.monotonic() - start:.1f} s", flush=True)
    if message:
        print(f"error: {message}", file=sys.stderr)
    return status


def _attempt(rehearsal: Rehearsal, options: argparse.Namespace) -> tuple[int, str]:
    try:
        if options.command == "destroy":
            rehearsal.delete_undeclared()
        else:
            run(rehearsal, options)
    except KeyboardInterrupt:
        return 130, "interrupted; the next up or destroy goes on from here"
    except pulumi.RunError as error:
        return 1, str(error)
    except Exception as error:
        return 1, f"{type(error).__name__}: {error}"
    return 0, ""


if __name__ == "__main__":
    sys.exit(main())
