"""What runs the program for a stack: the Pulumi CLI, through the SDK's automation API.

Owns the CLI's installation, the file backend of the dev stack, and the protocol of a runner.
What a stack holds is the program's business.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from pulumi.automation import (
    InvalidVersionError,
    LocalWorkspace,
    OutputValue,
    PulumiCommand,
    Stack,
)
from semver import VersionInfo

ROOT = Path(__file__).parent.parent
PRIVATE = ROOT / ".pulumi"
SDK = VersionInfo.parse(version("pulumi"))
INSTALLER = "https://get.pulumi.com/install.sh"
INSTALLER_TIMEOUT = 15  # seconds; only to learn whether it can be reached


Finished = subprocess.CompletedProcess[str]


class CliMissingError(Exception):
    """There is no Pulumi CLI that the SDK works with, and none can be installed."""


class Runner(Protocol):
    """What runs the program for one stack."""

    @property
    def name(self) -> str:
        """The runner's name."""

    @property
    def stack(self) -> str:
        """The stack's name."""

    @property
    def offline(self) -> Sequence[str]:
        """The options of a preview that does not ask the Swarm."""

    def create(self) -> None:
        """Create the stack if it does not exist; raises `CommandError`."""

    def run(self, action: str, *options: str, capture: bool = False) -> Finished:
        """Run `up`, `preview` or `destroy`; with `capture` the output is returned, not shown."""

    def outputs(self, *, secrets: bool = False) -> dict[str, Any]:
        """Return the outputs of the stack; secrets are masked unless asked for."""

    def state(self) -> dict[str, Any]:
        """Return the state, as `pulumi stack export` prints it under `deployment`.

        Raises `CalledProcessError`.
        """

    def output_command(self, name: str) -> str:
        """Return the command that prints an output, also a secret."""


@dataclass(frozen=True, kw_only=True)
class PulumiRunner:
    """The Pulumi CLI on one stack.

    `config_file` replaces `Pulumi.<stack>.yaml`; it has the same name, beside a `Pulumi.yaml`.
    """

    stack: str
    cli: PulumiCommand
    config_file: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict)  # environment variables
    project: Path = ROOT
    wrapper: Sequence[str] = ()  # a command that runs the CLI's, `ip netns exec` for example
    name: str = "pulumi"
    offline: Sequence[str] = ("--refresh=false", "--diff", "--non-interactive")

    def create(self) -> None:
        """Create the stack; the CLI writes its encryption salt into the config file."""
        Stack.create_or_select(self.stack, self._workspace)

    def run(self, action: str, *options: str, capture: bool = False) -> Finished:
        """Run `action` by the CLI."""
        # No user answers questions here, so none would read the preview that the CLI makes first.
        answer = [] if action == "preview" else ["--yes", "--skip-preview"]
        config = ["--config-file", str(self.config_file)] if self.config_file else []
        return self._call(
            [action, "--stack", self.stack, *answer, *config, *options], capture=capture
        )

    def ask(self, *command: str) -> Finished:
        """Run another command of the CLI on the stack and return its output."""
        return self._call([*command, "--stack", self.stack], capture=True)

    def outputs(self, *, secrets: bool = False) -> dict[str, Any]:
        """Read the outputs from the stack's state."""
        outputs = self._workspace.stack_outputs(self.stack)
        return {name: _shown(output, secrets=secrets) for name, output in outputs.items()}

    def state(self) -> dict[str, Any]:
        """Export the state."""
        done = self.ask("stack", "export")
        done.check_returncode()
        state: dict[str, Any] = json.loads(done.stdout)["deployment"]
        return state

    def output_command(self, name: str) -> str:
        """Return the CLI's own command, with what the stack's backend needs."""
        settings = "".join(f"{key}={shlex.quote(self.settings[key])} " for key in self.settings)
        output = f"stack output {name} --show-secrets --stack {self.stack}"
        return f"{settings}{self.cli.command} {output}"

    @property
    def _workspace(self) -> LocalWorkspace:
        folder = self.config_file.parent if self.config_file else self.project
        return LocalWorkspace(
            work_dir=str(folder), env_vars=self.settings, pulumi_command=self.cli
        )

    # Not by `Stack.up` and its siblings. They show no live progress, they leave the stack locked
    # when SIGTERM ends them, their error has no exit status, they cannot say `--refresh=false`,
    # and `Stack.up` takes a second longer, for three more calls of the CLI.
    def _call(self, arguments: Sequence[str], *, capture: bool) -> Finished:
        command = [*self.wrapper, self.cli.command, *arguments]
        return call(command, self.project, {**os.environ, **self.settings}, capture=capture)


def _shown(output: OutputValue, *, secrets: bool) -> Any:  # noqa: ANN401  an output is any JSON
    return "[secret]" if output.secret and not secrets else output.value


def call(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], *, capture: bool
) -> Finished:
    """Run a command that ends by itself when this process is interrupted."""
    pipe = subprocess.PIPE if capture else None
    with (
        subprocess.Popen(
            command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True
        ) as process,
        _interrupting(process),
    ):
        out, err = process.communicate()
    return Finished(command, process.returncode, out, err)


@contextmanager
def _interrupting(process: "subprocess.Popen[str]") -> Iterator[None]:
    """Let `process` end by itself when this process is interrupted.

    `subprocess.run` would kill it, and leave its Swarm half-way and its stack locked. A terminal
    interrupts both processes; SIGTERM reaches only this one, which passes it on.
    """
    handlers = {
        signal.SIGINT: lambda *_: None,
        signal.SIGTERM: lambda *_: process.send_signal(signal.SIGINT),
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def runner_for(stack: str) -> PulumiRunner:
    """Return the Pulumi CLI on a stack, installed into `.pulumi/cli` if need be.

    Raises `CliMissingError`.
    """
    cli = installed_cli() or _install_cli()
    backend = file_backend(PRIVATE / "state") if stack == "dev" else {}
    settings = {key: value for key, value in backend.items() if key not in os.environ}
    return PulumiRunner(stack=stack, cli=cli, settings=settings)


def installed_cli() -> PulumiCommand | None:
    """Return the Pulumi CLI on PATH or the private one, no older than the program's SDK.

    CI machines bring CLIs that are years old, with other exit statuses.
    """
    for root in (None, str(PRIVATE / "cli")):
        with suppress(OSError, subprocess.CalledProcessError, InvalidVersionError):
            return PulumiCommand(root, SDK)
    return None


def file_backend(folder: Path) -> dict[str, str]:
    """Return the variables that make the CLI keep state in `folder`, made for this user alone.

    The passphrase is empty: it would lie beside the state, where anyone who reads that reads it.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # A CLI that is killed while it writes metadata leaves an empty file, which it cannot read.
    url = f"file://{folder}?metadata=skip"
    return {"PULUMI_BACKEND_URL": url, "PULUMI_CONFIG_PASSPHRASE": ""}


def _install_cli() -> PulumiCommand:
    say(f"No pulumi {SDK} or newer is on PATH; installing it into {PRIVATE.name}/cli")
    try:
        # The SDK's own download has no timeout.
        urllib.request.urlopen(INSTALLER, timeout=INSTALLER_TIMEOUT).close()
        return PulumiCommand.install(str(PRIVATE / "cli"), SDK)
    except OSError as error:
        why = f"{INSTALLER} cannot be reached ({error})"
    except subprocess.CalledProcessError as error:
        why = f"its installer failed ({error.output.decode(errors='replace').strip()})"
    raise CliMissingError(
        f"The Pulumi CLI {SDK} or newer is not on PATH, and {why}."
        " Fix: install it by hand, see https://www.pulumi.com/docs/install"
    )


def say(line: str) -> None:
    """Print a line of progress."""
    print(line, file=sys.stderr, flush=True)
