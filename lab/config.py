"""The config of a stack as the Pulumi engine hands it to the program, without the engine.

Owns how a stack's config file is read, and how defaults, other values than text, and secrets are
handed on. Only the engine can decrypt secrets; an offline preview has a valid value instead.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
import yaml

from config.problems import ConfigError, Problem
from lab.layout import Lab

NOT_DECRYPTED = "not-decrypted"
PROJECT = Path(__file__).parent.parent


def stack_file(file: Path, *, named: bool = False) -> dict[str, Any]:
    """Return the content of a stack's config file, nothing if it does not exist.

    Raises `ConfigError` if the file cannot be read, `OSError` if a named file does not exist.
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
        found=f"cannot be read, {why}",
        expected="what `pulumi config set` writes",
        fix=f"git diff {file.name}",
    )
    raise ConfigError("The configuration is not valid", [problem])


def load_config(
    project: Mapping[str, Any], stack: Mapping[str, Any], *, offline: bool = False
) -> dict[str, str]:
    """Return the values of `stack`, or else the project's defaults, as text by full key.

    Raises a RunError for an encrypted value, except in an offline preview.
    """
    declared = project.get("config", {})
    defaults = {key: spec["default"] for key, spec in declared.items() if "default" in spec}
    config = {}
    for key, value in [*defaults.items(), *stack.get("config", {}).items()]:
        known = NOT_DECRYPTED if offline and _encrypted(value) else value
        text = known if isinstance(known, str) else json.dumps(known, separators=(",", ":"))
        if '{"secure":' in text:
            raise pulumi.RunError(
                f"{key} is encrypted, and only the Pulumi engine can decrypt it. "
                "Install the Pulumi CLI"
            )
        config[key if ":" in key else f"{project['name']}:{key}"] = text
    return config


def secret_keys(stack: Mapping[str, Any]) -> list[str]:
    """Return the keys of the encrypted values."""
    return [key for key, value in stack.get("config", {}).items() if _encrypted(value)]


def dev_config() -> dict[str, Any]:
    """Return what the config file of the dev stack sets, by full key."""
    config: dict[str, Any] = stack_file(PROJECT / "Pulumi.dev.yaml")["config"]
    return config


def dev_images(lab: Lab) -> dict[str, str]:
    """Return the images of the dev stack by config key, in the registry of `lab`."""
    config = dev_config()
    named = {key: config[f"dask-swarm:{key}"] for key in ("image", "notebookImage", "caddyImage")}
    return {key: image.replace(Lab().registry, lab.registry) for key, image in named.items()}


def _encrypted(value: object) -> bool:
    return isinstance(value, dict) and [*value] == ["secure"]
