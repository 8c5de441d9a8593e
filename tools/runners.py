"""What runs the program for a stack: the Pulumi CLI or, where that cannot be had, the rehearsal.

Owns the CLI's installation, the file backend that stacks of this machine use, and one way to call
either. What a stack holds is the program's business.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).parent.parent
PRIVATE = ROOT / ".pulumi"
INSTALLER = "https://get.pulumi.com"
INSTALLER_TIMEOUT = 15  # seconds; only to learn whether it can be reached
CLI_TIMEOUT = 30  # seconds; to tell its version


Finished = subprocess.CompletedProcess[str]


class Runner(Protocol):
    """What carries out the program for one stack."""

    @property
    def name(self) -> str:
        """What this way to run the program is called."""

    @property
    def offline(self) -> Sequence[str]:
        """The options of a preview that asks no Swarm."""

    def create(self) -> None:
        """Make the stack unless there is one."""

    def run(self, action: str, *options: str, capture: bool = False) -> Finished:
        """Carry out `up`, `preview` or `destroy`; with `capture` the output is kept, not shown."""

    def outputs(self, *, secrets: bool = False) -> dict[str, Any]:
        """Return the outputs of the stack; secrets are masked unless asked for."""

    def token_command(self) -> str:
        """Return the command that prints the notebook's token."""


@dataclass(frozen=True, kw_only=True)
class PulumiCli:
    """The Pulumi CLI on one stack.

    `config_file` replaces `Pulumi.<stack>.yaml`; it has the same name, beside a `Pulumi.yaml`.
    """

    stack: str
    cli: str = "pulumi"
    config_file: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    project: Path = ROOT
    wrapper: Sequence[str] = ()  # what the command stands behind
    name: str = "pulumi"
    offline: Sequence[str] = ("--refresh=false", "--diff", "--non-interactive")

    def create(self) -> None:
        """Make the stack; the CLI writes its encryption salt into the config file."""
        place = ["--cwd", str(self.config_file.parent)] if self.config_file else []
        done = self._call(["stack", "select", "--create", self.stack, *place], capture=True)
        if done.returncode:
            raise RuntimeError(f"pulumi stack select failed:\n{done.stdout}{done.stderr}")

    def run(self, action: str, *options: str, capture: bool = False) -> Finished:
        """Carry out `action` by the CLI."""
        # Nobody is asked, so nobody would read the preview that the CLI makes first.
        answer = [] if action == "preview" else ["--yes", "--skip-preview"]
        config = ["--config-file", str(self.config_file)] if self.config_file else []
        arguments = [action, "--stack", self.stack, *answer, *config, *options]
        return self._call(arguments, capture=capture)

    def outputs(self, *, secrets: bool = False) -> dict[str, Any]:
        """Ask the CLI for the outputs."""
        show = ["--show-secrets"] if secrets else []
        done = self._call(
            ["stack", "output", "--json", "--stack", self.stack, *show], capture=True
        )
        done.check_returncode()
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def token_command(self) -> str:
        """Return the CLI's own command, with what the stack's backend needs."""
        settings = "".join(f"{key}={shlex.quote(self.settings[key])} " for key in self.settings)
        return f"{settings}pulumi stack output notebook_token --show-secrets --stack {self.stack}"

    def _call(self, arguments: Sequence[str], *, capture: bool) -> Finished:
        environment = dict(self.settings) | dict(os.environ)
        command = [*self.wrapper, self.cli, *arguments]
        return _call(command, self.project, environment, capture=capture)


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """The stand-in for the engine, for Swarms of this machine alone."""

    stack: str
    config_file: Path | None = None
    wrapper: Sequence[str] = ()  # what the command stands behind
    name: str = "rehearsal"
    offline: Sequence[str] = ()

    def create(self) -> None:
        """There is nothing to make."""

    def run(self, action: str, *options: str, capture: bool = False) -> Finished:
        """Carry out `action` by `lab.rehearsal`."""
        config = ["--config-file", str(self.config_file)] if self.config_file else []
        return self._call([action, *config, *options], capture=capture)

    def outputs(self, *, secrets: bool = False) -> dict[str, Any]:
        """Ask the rehearsal for the outputs."""
        show = ["--show-secrets"] if secrets else []
        done = self._call(["output", "--json", *show], capture=True)
        done.check_returncode()
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def token_command(self) -> str:
        """Return the rehearsal's command."""
        python = ".venv/bin/python"
        return (
            f"{python} -m lab.rehearsal output notebook_token --show-secrets --stack {self.stack}"
        )

    def _call(self, arguments: Sequence[str], *, capture: bool) -> Finished:
        action, *options = arguments
        program = [*self.wrapper, sys.executable, "-m", "lab.rehearsal"]
        command = [*program, action, "--stack", self.stack, *options]
        return _call(command, ROOT, os.environ, capture=capture)


def _call(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], *, capture: bool
) -> Finished:
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
    """Let `process` end by itself when this one is interrupted.

    `subprocess.run` would kill it, and leave its Swarm half-way and its stack locked. A terminal
    interrupts both; whoever asks only this process to end has that passed on.
    """
    handlers = {
        signal.SIGINT: lambda *_: None,
        signal.SIGTERM: lambda *_: process.send_signal(signal.SIGINT),
    }
    before = {each: signal.signal(each, handler) for each, handler in handlers.items()}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def runner_for(stack: str, config_file: Path | None = None) -> Runner:
    """Return the Pulumi CLI, installed into `.pulumi/cli` if need be, or else the rehearsal."""
    cli = installed_cli() or _install_cli(version("pulumi"))
    if cli is None:
        return Rehearsal(stack=stack, config_file=config_file)
    settings = file_backend(PRIVATE / "state") if stack == "dev" else {}
    return PulumiCli(stack=stack, cli=cli, config_file=config_file, settings=settings)


def installed_cli() -> str | None:
    """Return the path of a Pulumi CLI that is already here, no older than the program's SDK."""
    found = [shutil.which("pulumi"), shutil.which(PRIVATE / "cli" / "bin" / "pulumi")]
    return next((cli for cli in found if cli and _is_recent(cli)), None)


def _is_recent(cli: str) -> bool:
    # A runner of a continuous integration may bring along one of its own, years old: what it
    # ends with when a preview finds changes, for one, has changed since.
    asked = [cli, "version"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=CLI_TIMEOUT)
    return _release(done.stdout) >= _release(version("pulumi"))


def _release(text: str) -> tuple[int, ...]:
    """Return 3 and 259 for `v3.259.0`, nothing for what is no version."""
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])


def file_backend(folder: Path) -> dict[str, str]:
    """Return what makes the CLI keep state in `folder`, which is made for this user alone.

    The passphrase is empty: whoever reads the folder would find it beside the state anyway.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return {"PULUMI_BACKEND_URL": f"file://{folder}", "PULUMI_CONFIG_PASSPHRASE": ""}


def _install_cli(wanted: str) -> str | None:
    say(f"No pulumi {wanted} or newer is on PATH; installing it into {PRIVATE.name}/cli")
    try:
        with urllib.request.urlopen(INSTALLER, timeout=INSTALLER_TIMEOUT) as answer:
            script = answer.read()
    except (urllib.error.URLError, TimeoutError) as error:
        say(f"The installer of the Pulumi CLI cannot be reached ({error}).")
        say("Using the rehearsal instead: good for this machine, but not the Pulumi engine.")
        return None
    target = ["--version", wanted, "--install-root", str(PRIVATE / "cli"), "--no-edit-path"]
    subprocess.run(["sh", "-s", "--", *target], input=script, check=True)
    return str(PRIVATE / "cli" / "bin" / "pulumi")


def say(line: str) -> None:
    """Print a line of progress."""
    print(line, file=sys.stderr, flush=True)
