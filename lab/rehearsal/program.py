"""Run the program under the SDK's mocks: for the rehearsal, and for tests of the program.

Owns how resources and outputs come out of the SDK as plain data, and which of them are secret.
"""

import asyncio
import functools
import logging
import runpy
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
from pulumi.runtime import mocks, rpc
from pulumi.runtime.stack import run_pulumi_func

from swarm.leftovers import COMMAND

Json = Any  # what JSON can hold, and the SDK's `Unknown` in a preview
PARALLEL = 32  # resources at once; a Command may take minutes and must not hold up the others


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A declared resource; `secret` names inputs to encrypt, `host` is its Docker engine."""

    type: str
    name: str
    inputs: dict[str, Any]
    secret: frozenset[str] = frozenset()
    host: str = ""
    id: str = ""
    outputs: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The type and the name, which no other resource has."""
        return f"{self.type}::{self.name}"


class Harness(mocks.MockMonitor, mocks.Mocks):
    """The SDK's mock engine; `make` returns a resource with its id and outputs."""

    def __init__(self, make: Callable[[Resource], Resource]) -> None:
        super().__init__(self)
        self.make = make
        self.secret_outputs: dict[str, set[str]] = {}

    def RegisterResource(self, request: Json) -> Json:  # noqa: N802, D102  the SDK's name
        key = f"{request.type}::{request.name}"
        if key in self.secret_outputs:
            raise ValueError(f"{key} is declared twice")
        self.secret_outputs[key] = {*request.additionalSecretOutputs}
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]

    def call(self, args: mocks.MockCallArgs) -> Json:
        """Refuse to call a provider."""
        raise ValueError(f"{args.token}: a provider is called, and there is none")

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        """Have a resource made, and mark its secret outputs."""
        declared = Resource(
            type=args.typ,
            name=args.name,
            inputs=plain(args.inputs),
            secret=frozenset(k for k, value in args.inputs.items() if rpc.is_rpc_secret(value)),
            host=(args.provider or "").rpartition("::")[2],
        )
        made = self.make(declared)
        secret = self.secret_outputs[made.key]
        if made.type == COMMAND and made.secret:
            secret = secret | made.outputs.keys()
        outputs = args.inputs | made.outputs
        return made.id, outputs | {
            name: rpc.wrap_rpc_secret(outputs[name]) for name in secret & outputs.keys()
        }


def run_program(
    harness: Harness,
    file: Path,
    config: Mapping[str, str],
    *,
    secret_keys: Iterable[str] = (),
    project: str,
    stack: str,
    preview: bool,
) -> dict[str, Any]:
    """Run the program and return its outputs, each with its `value` and whether it is `secret`."""

    async def execute() -> None:
        runpy.run_path(str(file), run_name="__main__")
        root: Any = pulumi.runtime.get_root_resource()
        exports = await rpc.serialize_properties(root.outputs, {})
        for name, value in sorted(rpc.deserialize_properties(exports).items()):
            outputs[name] = {"value": plain(value), "secret": rpc.is_rpc_secret(value)}

    async def execute_with_mocks() -> None:
        pulumi.runtime.reset_options()
        pulumi.runtime.set_all_config(dict(config), secret_keys=list(secret_keys))
        log = logging.getLogger("pulumi")
        mocks.set_mocks(harness, project, stack, preview, log, monitor=harness)
        await run_pulumi_func(execute)

    outputs: dict[str, Any] = {}
    _loop().run_until_complete(execute_with_mocks())
    return outputs


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    # One for all runs: the SDK opens another one in every thread, and leaves it open.
    loop = asyncio.new_event_loop()
    loop.set_default_executor(ThreadPoolExecutor(PARALLEL))
    return loop


def plain(value: Json) -> Json:
    """Return a value without the marks of secrets, and 2.0 as 2."""
    if rpc.is_rpc_secret(value):
        return plain(rpc.unwrap_rpc_secret(value))
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
