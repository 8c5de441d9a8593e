"""What the program in a checkout registers, learned without engine, Docker, state or secrets."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from config.problems import ConfigError
from lab.config import load_config, secret_keys, stack_file
from swarm.offline import OFFLINE, PROJECT

RECORDER = PROJECT / "preview" / "recorder.py"
SECONDS = 120


class UnreadableError(Exception):
    """The program in a checkout does not run to its end; the message is its own."""


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One registered resource; `secret` names the inputs that the engine would encrypt."""

    type: str
    name: str
    inputs: Mapping[str, Any]
    secret: frozenset[str] = frozenset()

    @property
    def key(self) -> str:
        """What it is called in a preview."""
        return f"{self.type.rpartition(':')[2]} {self.name}"


@dataclass(frozen=True, kw_only=True)
class Registered:
    """All resources of a program but its components, and what it said meanwhile."""

    resources: tuple[Resource, ...]
    told: tuple[str, ...]


def registered(checkout: Path, stack: str, python: str = sys.executable) -> Registered:
    """Run the program in `checkout` for `stack`; raises `UnreadableError` when it fails."""
    try:
        done = subprocess.run(
            [python, str(RECORDER)],
            cwd=checkout,
            env=dict(os.environ) | {"PYTHONPATH": str(checkout), OFFLINE: "1"},
            input=json.dumps(request(checkout, stack)),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=SECONDS,
            check=False,
        )
    except (ConfigError, OSError, yaml.YAMLError, subprocess.TimeoutExpired) as error:
        raise UnreadableError(str(error)) from error
    if done.returncode:
        raise UnreadableError(done.stderr.strip() or f"exit status {done.returncode}")
    return from_json(json.loads(done.stdout))


def request(checkout: Path, stack: str) -> dict[str, Any]:
    """Return what the recorder is told: the stack's config, without what is encrypted."""
    project = yaml.safe_load((checkout / "Pulumi.yaml").read_text(encoding="utf-8"))
    given = stack_file(checkout / f"Pulumi.{stack}.yaml")
    config = load_config(project, given, offline=True)
    secret = [key if ":" in key else f"{project['name']}:{key}" for key in secret_keys(given)]
    named = {"project": project["name"], "stack": stack}
    return named | {"config": config, "secret_keys": secret}


def from_json(found: Mapping[str, Any]) -> Registered:
    """Return what the recorder printed; components have no inputs and are left out."""
    resources = [
        Resource(
            type=each["type"],
            name=each["name"],
            inputs=each["inputs"],
            secret=frozenset(each["secret"]),
        )
        for each in found["resources"]
        if not each["type"].startswith("dask:")
    ]
    return Registered(resources=tuple(resources), told=tuple(found["told"]))
