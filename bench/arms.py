"""The arms of a bench: the original way to deploy, and the program by each runner."""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tools.runners import Runner

COMPOSE = Path(__file__).parent / "baseline.yaml"
STACK = "dask"
DEADLINE = 180  # seconds for four workers to join
CLIENT = """
from distributed import Client
with Client("scheduler:8786", timeout="120s") as client:
    client.wait_for_workers(4, timeout=120)
"""


class Arm(Protocol):
    """An action that is measured."""

    @property
    def name(self) -> str:
        """The arm's name in the table."""

    def run(self) -> None:
        """Run the measured action."""

    def undo(self) -> None:
        """Undo the action, unmeasured, so that it can run again."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The original way: `docker stack deploy`, then a client that waits for four workers."""

    docker_host: str
    images: Mapping[str, str]
    name: str = "docker stack deploy, then a client"
    control_host: Sequence[str] = ()  # runs a command on another machine than this

    def run(self) -> None:
        """Deploy, then wait in the notebook's container like its user."""
        self.deploy()
        self._docker("exec", self._notebook(), "python", "-c", CLIENT)

    def deploy(self) -> None:
        """Deploy the stack."""
        self._docker("stack", "deploy", "--compose-file", str(COMPOSE), STACK)

    def undo(self) -> None:
        """Remove the stack."""
        self._docker("stack", "rm", STACK)

    def _notebook(self) -> str:
        label = f"label=com.docker.swarm.service.name={STACK}_notebook"
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            ids = self._docker("ps", "--quiet", "--filter", label).split()
            if ids:
                return ids[0]
            time.sleep(0.1)
        raise TimeoutError(f"the original stack's notebook did not start within {DEADLINE} s")

    def _docker(self, *arguments: str) -> str:
        return self.call("docker", "--host", self.docker_host, *arguments)

    def call(self, *command: str) -> str:
        """Return the output of a command that must succeed, on the control host."""
        done = subprocess.run(
            [*self.control_host, *command],
            env=dict(os.environ) | self.variables,
            check=True,
            text=True,
            stdout=subprocess.PIPE,
            timeout=DEADLINE,
        )
        return done.stdout

    @property
    def variables(self) -> dict[str, str]:
        """The variables of the compose file."""
        return {"IMAGE": self.images["image"], "NOTEBOOK_IMAGE": self.images["notebookImage"]}


@dataclass(frozen=True, kw_only=True)
class Deploying:
    """The program from an empty Swarm to its proof."""

    runner: Runner

    @property
    def name(self) -> str:
        """The runner's name."""
        return f"this program, {self.runner.name}"

    def run(self) -> None:
        """Deploy, with the proof."""
        succeed(self.runner, "up")

    def undo(self) -> None:
        """Destroy the stack."""
        succeed(self.runner, "destroy")


@dataclass(frozen=True, kw_only=True)
class Repeating:
    """An action on a stack that is deployed already."""

    name: str
    runner: Runner
    action: str = "up"
    options: Sequence[str] = ()

    def run(self) -> None:
        """Run the action."""
        succeed(self.runner, self.action, *self.options)

    def undo(self) -> None:
        """Nothing was changed."""


@contextmanager
def done(arm: Arm) -> Iterator[float]:
    """Run an arm, yield the seconds that it took, and undo it, also after a failure."""
    start = time.monotonic()
    try:
        arm.run()
        yield time.monotonic() - start
    finally:
        arm.undo()


def succeed(runner: Runner, action: str, *options: str) -> None:
    """Run an action that must succeed; the error has its output."""
    done = runner.run(action, *options, capture=True)
    if done.returncode:
        raise RuntimeError(f"{runner.name} {action} failed:\n{done.stdout}{done.stderr}")
