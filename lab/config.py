"""The config of a stack as the engine hands it to the program, without the engine.

Owns how a stack's config file is read, and what becomes of defaults, of values that are no text,
and of secrets. Only the engine can decrypt those: a preview offline has another value in their
place, of a form that settings take.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from config.problems import ConfigError, Problem
from lab.layout import Lab
from lab.rehearsal_resources import RefusedError

NOT_DECRYPTED = "not-decrypted"
PROJECT = Path(__file__).parent.parent


def stack_file(file: Path, *, named: bool = False) -> dict[str, Any]:
    """Return what a stack's config file has, nothing where there is none.

    Raises `ConfigError` for one that cannot be read, `OSError` where one was named that is none.
    """
    given = file.read_text(encoding="utf-8") if named or file.exists() else ""
    try:
        stack = yaml.safe_load(given) or {}
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        why = f"line {line}: {error.problem}"
    else:
        if isinstance(stack, dict) and isinstance(stack.get("config") or {}, dict):
            return {**stack, "config": stack.get("config") or {}}
        why = "it has no keys"
    problem = Problem(
        key=file.name,
        found=f"it cannot be read, {why}",
        expected="what `pulumi config set` writes",
        fix=f"git diff {file.name}",
    )
    raise ConfigError("The configuration is not valid", [problem])


def load_config(
    project: Mapping[str, Any], stack: Mapping[str, Any], *, offline: bool = False
) -> dict[str, str]:
    """Return what `stack` has, else the project's defaults, as text by full key.

    Raises RefusedError for an encrypted value, for which a preview offline has another.
    """
    declared = project.get("config", {})
    defaults = {key: each["default"] for key, each in declared.items() if "default" in each}
    config = {}
    for key, value in [*defaults.items(), *stack.get("config", {}).items()]:
        known = NOT_DECRYPTED if offline and _encrypted(value) else value
        text = known if isinstance(known, str) else json.dumps(known, separators=(",", ":"))
        if '{"secure":' in text:
            raise RefusedError(f"{key} is encrypted: only the real engine can decrypt it")
        config[key if ":" in key else f"{project['name']}:{key}"] = text
    return config


def secret_keys(stack: Mapping[str, Any]) -> list[str]:
    """Return the keys whose values the stack's config file keeps as secrets."""
    return [key for key, value in stack.get("config", {}).items() if _encrypted(value)]


def dev_images(lab: Lab) -> dict[str, str]:
    """Return the images of the dev stack by config key, as the registry of `lab` has them."""
    stack = stack_file(PROJECT / "Pulumi.dev.yaml")["config"]
    named = {key: stack[f"dask-swarm:{key}"] for key in ("image", "notebookImage", "caddyImage")}
    return {key: image.replace(Lab().registry, lab.registry) for key, image in named.items()}


def _encrypted(value: object) -> bool:
    return isinstance(value, dict) and [*value] == ["secure"]
