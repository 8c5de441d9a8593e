"""Run the program of the current directory offline and print what it registers, as JSON.

Runs as a script of its own and imports nothing of the project, so that it can be used on another
checkout. It reads `project`, `stack`, `config` and `secret_keys` as JSON on standard input.
"""

import asyncio
import contextlib
import json
import logging
import runpy
import sys
import traceback
from typing import Any

import pulumi
from pulumi.runtime import mocks, rpc
from pulumi.runtime.stack import run_pulumi_func

HEALTH = '{"workers": 0}'


class Recorder(mocks.Mocks):
    """Answers as the engine would to a first deployment, and keeps what was registered."""

    def __init__(self) -> None:
        self.resources: list[dict[str, Any]] = []

    def call(self, args: mocks.MockCallArgs) -> Any:  # noqa: ANN401  it never returns
        """Refuse to ask a provider: nobody is there to answer."""
        raise ValueError(f"{args.token}: a provider is asked in a preview")

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        """Keep the inputs; the same name always gets the same answers."""
        inputs = {name: _plain(value) for name, value in args.inputs.items()}
        secret = [name for name, value in args.inputs.items() if _has_secret(value)]
        entry = {"type": args.typ, "name": args.name, "inputs": inputs, "secret": sorted(secret)}
        self.resources.append(entry)
        return f"<{args.name}>", {"name": f"<{args.name}>"} | args.inputs | _invented(args)


def _invented(args: mocks.MockResourceArgs) -> dict[str, Any]:
    if args.typ == "random:index/randomPassword:RandomPassword":
        return {"result": rpc.wrap_rpc_secret(f"generated-{args.name}")}
    if args.typ == "random:index/randomId:RandomId":
        # Salts are made of it, so it has to look like one.
        return {"hex": args.name.encode().hex().ljust(32, "0")[:32]}
    return {"stdout": HEALTH} if args.typ == "command:local:Command" else {}


def _plain(value: Any) -> Any:  # noqa: ANN401  whatever JSON can hold
    if rpc.is_rpc_secret(value):
        return _plain(rpc.unwrap_rpc_secret(value))
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _has_secret(value: Any) -> bool:  # noqa: ANN401  whatever JSON can hold
    if rpc.is_rpc_secret(value):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return isinstance(value, dict | list) and any(map(_has_secret, inner))


class Told(logging.Handler):
    """Keeps what the program says as it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line, once."""
        line = record.getMessage()
        if line not in self.lines:
            self.lines.append(line)


async def _program() -> None:
    runpy.run_path("__main__.py", run_name="__main__")


def main() -> int:
    """Return 0 with the registrations on standard output, or 1 with the error on the other."""
    given = json.load(sys.stdin)
    recorder, told, log = Recorder(), Told(), logging.getLogger("preview")
    log.addHandler(told)
    log.setLevel(logging.INFO)
    log.propagate = False
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    pulumi.runtime.set_all_config(given["config"], secret_keys=given["secret_keys"])
    mocks.set_mocks(recorder, given["project"], given["stack"], preview=True, logger=log)
    try:
        # Standard output is for the registrations alone, whatever the program prints.
        with contextlib.redirect_stdout(sys.stderr):
            loop.run_until_complete(run_pulumi_func(_program))
    except pulumi.RunError as error:
        print(error, file=sys.stderr)
        return 1
    except Exception:
        traceback.print_exc()
        return 1
    kept = sorted(recorder.resources, key=lambda each: (each["type"], each["name"]))
    print(json.dumps({"resources": kept, "told": told.lines}, sort_keys=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
