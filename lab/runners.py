"""The rehearsal as a runner, where the Pulumi CLI cannot be had."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.rehearsal.state import State, state_file
from swarm.leftovers import PROVIDER
from tools.runners import ROOT, Finished, call


@dataclass(frozen=True, kw_only=True)
class RehearsalRunner:
    """The rehearsal on one stack, for Swarms of this machine alone."""

    stack: str
    config_file: Path | None = None
    wrapper: Sequence[str] = ()  # a command that runs the rehearsal's
    name: str = "rehearsal"
    offline: Sequence[str] = ()

    def create(self) -> None:
        """A stack of the rehearsal needs no creation."""

    def run(self, action: str, *options: str, capture: bool = False) -> Finished:
        """Run `action` by `lab.rehearsal`."""
        config = ["--config-file", str(self.config_file)] if self.config_file else []
        program = [*self.wrapper, sys.executable, "-m", "lab.rehearsal"]
        command = [*program, action, "--stack", self.stack, *config, *options]
        return call(command, ROOT, os.environ, capture=capture)

    def outputs(self, *, secrets: bool = False) -> dict[str, Any]:
        """Read the outputs from the rehearsal's state."""
        return self._state.shown(secrets=secrets)

    def state(self) -> dict[str, Any]:
        """Return the rehearsal's resources and engines in the form of the engine's state."""
        made = self._state.resources
        hosts = {resource.host for resource in made.values()} - {""}
        providers = [{"type": PROVIDER, "urn": "", "inputs": {"host": host}} for host in hosts]
        return {"resources": [*providers, *({**vars(made[key]), "urn": key} for key in made)]}

    def output_command(self, name: str) -> str:
        """Return the rehearsal's command."""
        output = f"output {name} --show-secrets --stack {self.stack}"
        return f".venv/bin/python -m lab.rehearsal {output}"

    @property
    def _state(self) -> State:
        return State(ROOT / state_file(self.stack))
