"""Rehearse the Pulumi program on the lab's Swarm where the Pulumi engine cannot be had.

The unchanged program runs on the SDK's own mock monitor; what it declares is carried out (see
`rehearsal_resources`) and taken down in reverse order. This is not the Pulumi engine: no plugins,
no encryption, and of what was changed by hand it sees only that it was. The state in
`.pulumi/rehearsal/<stack>.json` holds secrets as they are.
"""

import argparse
import asyncio
import json
import logging
import os
import runpy
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pulumi
import yaml
from pulumi.runtime import mocks, rpc
from pulumi.runtime.stack import run_pulumi_func

from lab.config import load_config, secret_keys, stack_file
from lab.rehearsal import resources
from lab.rehearsal.resources import Json, Record, RefusedError
from lab.rehearsal.state import State
from swarm.offline import OFFLINE, switched_on

BANNER = "*** REHEARSAL: this is not the Pulumi engine. It is for the lab alone. ***"
PARALLEL = 32  # resources at once; a Command may take minutes and must not hold up the others
GRACE_SECONDS = 30  # what a Command that is told to end has for cleaning up
MARKS = {"create": "+", "update": "~", "replace": "+-", "delete": "-", "same": " "}
# The inputs whose change means replacement, for types where any other is updated in place.
FIXED: dict[str, set[str]] = {
    "docker:index/service:Service": {"name"},
    "command:local:Command": {"triggers"},
    resources.PROVIDER: set(),
}
# Options of a resource by which the engine would do something that is not done here.
UNSUPPORTED = {
    *("aliases", "customTimeouts", "deleteBeforeReplace", "deletedWith"),
    *("protect", "replaceOnChanges", "replace_with", "replacement_trigger", "retainOnDelete"),
    "transforms",
}


def plain(value: Json) -> Json:
    """Return a value of the mock monitor without its marks of secrets, and 2.0 as 2."""
    if rpc.is_rpc_secret(value):
        return plain(rpc.unwrap_rpc_secret(value))
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def plan(old: Record | None, new: Record) -> tuple[str, list[str]]:
    """Return what is to be done, one of MARKS, and which inputs differ."""
    if old is None:
        return "create", []
    names = old.inputs.keys() | new.inputs.keys()
    changed = {name for name in names if old.inputs.get(name) != new.inputs.get(name)}
    if not changed:
        return "same", []
    return "replace" if changed & FIXED.get(new.type, changed) else "update", sorted(changed)


def ignoring(paths: Sequence[str], old: Record | None, new: Record) -> Record:
    """Return `new` with what `old` has at the paths; they are of the form `input.key`."""
    inputs = dict(new.inputs)
    known = (path.partition(".") for path in paths if old)
    for name, _, key in (each for each in known if each[0] in inputs):
        rest = {k: v for k, v in inputs[name].items() if k != key}
        before = old.inputs.get(name, {}) if old else {}
        inputs[name] = rest | {k: v for k, v in before.items() if k == key}
    return replace(new, inputs=inputs)


class Rehearsal(mocks.Mocks):
    """Stands where the engine would: is told of every resource and has it carried out."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.offline = switched_on(OFFLINE, os.environ)
        self.secret_outputs: dict[str, set[str]] = {}
        self.ignored: dict[str, list[str]] = {}
        self.done: list[str] = []
        self.errors: list[str] = []

    def call(self, args: mocks.MockCallArgs) -> Json:
        """Refuse to ask a provider for anything."""
        raise ValueError(f"{args.token}: the rehearsal does not know this function")

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        """Carry out one resource; there is nothing to do for a component."""
        if args.custom is False:
            return "", args.inputs
        key = f"{args.typ}::{args.name}"
        with self._blaming(key):
            record = self._reach(key, args)
        secret = self.secret_outputs.get(key, set())
        if args.typ.startswith("command:") and any(map(rpc.is_rpc_secret, args.inputs.values())):
            secret = secret | record.outputs.keys()
        found = {**args.inputs, **record.outputs}
        wrapped = {name: rpc.wrap_rpc_secret(found[name]) for name in secret & found.keys()}
        return record.id, {**found, **wrapped}

    def _reach(self, key: str, args: mocks.MockResourceArgs) -> Record:
        if args.typ not in resources.BLOCKS or args.resource_id:
            raise ValueError("the rehearsal does not know this type, or is told to import it")
        host = (args.provider or "").rpartition("::")[2]
        new = Record(type=args.typ, name=args.name, host=host, inputs=plain(args.inputs))
        resources.translate(new.type, new.inputs)  # refuses what it does not know
        old = self.state.rest.get(key)
        new = ignoring(self.ignored.get(key, ()), old, new)
        action, changed = plan(old, new)
        with self._told(action, key, changed):
            done = self._carry_out(action, key, new, old)
        self.state.book(key, done, self.state.rest.get(key) if action == "replace" else None)
        return done

    def _carry_out(self, action: str, key: str, new: Record, old: Record | None) -> Record:
        if old and action == "same":
            return replace(new, id=old.id, outputs=old.outputs)
        if self.state.dry and (self.offline or new.type != resources.PROVIDER):
            return replace(new, id=old.id) if old and action == "update" else new
        if old and action == "update":
            return resources.update(new, old)
        if old and new.inputs.get("name") == old.outputs.get("name", ""):
            resources.delete(old)  # a name cannot be had twice
            self.state.book(key)
        return resources.create(new)

    def finish(self) -> None:
        """Delete what was replaced and what is no longer declared, dependents first."""
        doomed = {**({} if self.state.dry else self.state.replaced), **self.state.rest}
        for key, record in reversed(doomed.items()):
            with self._blaming(key), self._told("delete", key, []):
                if not self.state.dry:
                    resources.delete(record)
            self.state.book(key)

    @contextmanager
    def _blaming(self, key: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.errors.append(f"{key}: {getattr(error, 'explanation', None) or error}")
            raise

    @contextmanager
    def _told(self, action: str, key: str, changed: list[str]) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.done.append(action)
        details = [*changed, f"{time.monotonic() - start:.1f} s"]
        print(f" {MARKS[action]:2} {key} {action} ({', '.join(details)})\n", end="", flush=True)


class Monitor(mocks.MockMonitor):
    """The SDK's mock monitor, which passes over the options of a resource."""

    mocks: Rehearsal

    def RegisterResource(self, request: Json) -> Json:  # noqa: N802, D102
        key = f"{request.type}::{request.name}"
        if [*request.replaceOnChanges] == ["triggers[*]"]:
            request.ClearField("replaceOnChanges")  # the SDK's own for a Command, as in FIXED
        options = {option.name for option, _ in request.ListFields()}
        if refused := sorted(options & UNSUPPORTED):
            raise ValueError(f"{key}: the rehearsal does not know the option {refused[0]}")
        if key in self.mocks.secret_outputs:
            raise ValueError(f"{key} is declared twice")
        self.mocks.secret_outputs[key] = set(request.additionalSecretOutputs)
        self.mocks.ignored[key] = [*request.ignoreChanges]
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]


async def _program(state: State) -> None:
    runpy.run_path("__main__.py", run_name="__main__")
    stack: Any = pulumi.runtime.get_root_resource()
    exports = rpc.deserialize_properties(await rpc.serialize_properties(stack.outputs, {}))
    state.outputs = {
        name: {"value": plain(each), "secret": rpc.is_rpc_secret(each)}
        for name, each in sorted(exports.items())
    }


def run(rehearsal: Rehearsal, options: argparse.Namespace) -> None:
    """Run the program of the current directory, then delete what it no longer declares."""
    project = yaml.safe_load(Path("Pulumi.yaml").read_text(encoding="utf-8"))
    config_file = options.config_file or Path(f"Pulumi.{options.stack}.yaml")
    loop, workers = asyncio.new_event_loop(), ThreadPoolExecutor(PARALLEL)
    asyncio.set_event_loop(loop)
    loop.set_default_executor(workers)
    stack = stack_file(config_file, named=bool(options.config_file))
    config = load_config(project, stack, offline=rehearsal.offline)
    pulumi.runtime.set_all_config(config, secret_keys=secret_keys(stack))
    monitor, log = Monitor(rehearsal), logging.getLogger("pulumi")
    mocks.set_mocks(rehearsal, project["name"], options.stack, rehearsal.state.dry, log, monitor)
    try:
        loop.run_until_complete(run_pulumi_func(lambda: _program(rehearsal.state)))
    finally:
        workers.shutdown(cancel_futures=True)  # what has begun is finished and booked
    rehearsal.finish()
    rehearsal.state.save()


def show(outputs: Mapping[str, Any], options: argparse.Namespace) -> None:
    """Print the stack's outputs as `pulumi stack output` would."""
    hide = not options.show_secrets
    values = {k: "[secret]" if hide and v["secret"] else v["value"] for k, v in outputs.items()}
    if options.name:
        if options.name not in values:
            sys.exit(f"error: the stack has no output {options.name}")
        value = values[options.name]
        print(value if isinstance(value, str) and not options.json else json.dumps(value))
    elif options.json:
        print(json.dumps(values, indent=2))
    else:
        width = max(map(len, values), default=0)
        for name, value in values.items():
            text = json.dumps(value, sort_keys=True, default=lambda _: "[unknown]")
            print(f"    {name:{width}}: {text}")


def _interrupt(*_: object) -> None:
    resources.stop()
    late = threading.Timer(GRACE_SECONDS, resources.stop, [signal.SIGKILL])
    late.daemon = True
    late.start()
    raise KeyboardInterrupt


def _attempt(rehearsal: Rehearsal, options: argparse.Namespace) -> int:
    try:
        if not rehearsal.offline:
            rehearsal.state.forget_another_swarm(resources.swarm_of)
        if options.command == "destroy":
            rehearsal.finish()
        else:
            if not rehearsal.offline:
                rehearsal.state.refresh(resources.by_hand)
            run(rehearsal, options)
            print("\nOutputs:")
            show(rehearsal.state.outputs, options)
    except KeyboardInterrupt:
        rehearsal.errors = ["interrupted; the state holds what was done until then"]
        return 130
    except RefusedError as error:
        rehearsal.errors = [str(error)]
        return 2
    except Exception as error:
        kind = "" if isinstance(error, pulumi.RunError) else f"{type(error).__name__}: "
        rehearsal.errors = rehearsal.errors or [f"{kind}{error}"]
    return 1 if rehearsal.errors else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lab.rehearsal", description=BANNER)
    parser.add_argument("command", choices=["up", "preview", "destroy", "output"])
    parser.add_argument("name", nargs="?", help="the one output to print")
    parser.add_argument("--stack", default="dev")
    parser.add_argument("--config-file", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--show-secrets", action="store_true")
    return parser.parse_args()


def main() -> int:
    """Do what the command line says; return 0, 1 after an error, 2 if refused, 130 after ^C."""
    options, start = _options(), time.monotonic()
    path = Path(".pulumi", "rehearsal", f"{options.stack}.json")
    rehearsal = Rehearsal(State(path, dry=options.command == "preview"))
    if options.command == "output":
        show(rehearsal.state.outputs, options)
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # a failed run leaves tasks unawaited
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    print(BANNER, flush=True)
    status = _attempt(rehearsal, options)
    counts = ", ".join(f"{number} {action}" for action, number in Counter(rehearsal.done).items())
    print(f"\nResources: {counts or 'none'}, in {time.monotonic() - start:.1f} s", flush=True)
    for message in rehearsal.errors:
        print(f"error: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
