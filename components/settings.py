"""The settings of a stack: every config key read, checked and typed, in one place.

Owns: which keys there are, what each may hold, and how they must fit together. All errors are
collected and reported at once, before any resource is registered. It does not ask the Swarm
anything; `lookup.py` does.

A field's config key is its name in camelCase; `Pulumi.yaml` holds its description and default.
"""

import difflib
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any, get_args, get_type_hints

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env, is_config_secret

from components.parsing import (
    ImageReference,
    Platform,
    cpus,
    docker_host,
    image_reference,
    memory_from,
    network_name,
    one_of,
    password,
    placement,
    platform,
    requirements,
    whole_number,
)

# Measured: the memory of a worker at rest; in less the kernel kills it while it starts.
SMALLEST_MEMORY = "256MiB"
SMALLEST_CPU_PER_THREAD = Decimal("0.25")


class ConfigError(pulumi.RunError):
    """One message that lists everything wrong with a configuration, before anything is touched."""

    def __init__(self, headline: str, problems: list[str]) -> None:
        lines = "".join(f"\n  - {problem}" for problem in problems)
        super().__init__(f"{headline}; nothing was touched.{lines}")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a config value is parsed, and how one that is right is set."""

    parse: Callable[[str], Any]
    example: str
    secret: bool = False


_CPUS = Setting(parse=cpus, example="0.5")
_MEMORY = Setting(parse=memory_from(SMALLEST_MEMORY), example="1GiB")
_COUNT = Setting(parse=whole_number(1, 1000), example="2")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one stack; sizes in bytes, CPUs as exact decimals, times in seconds."""

    docker_host: Annotated[str, Setting(parse=docker_host, example="ssh://deploy@manager")]
    platform: Annotated[Platform, Setting(parse=platform, example="linux/amd64")]
    image: Annotated[
        ImageReference,
        Setting(parse=image_reference, example="ghcr.io/dask/dask:2026.7.1-py3.12"),
    ]
    notebook_image: Annotated[
        ImageReference,
        Setting(parse=image_reference, example="ghcr.io/dask/dask-notebook:2026.7.1-py3.12"),
    ]
    extra_pip_packages: Annotated[
        tuple[str, ...],
        Setting(parse=requirements, example="--path 'extraPipPackages[0]' prefect"),
    ]

    workers: Annotated[int, _COUNT]
    workers_per_node: Annotated[int, _COUNT]
    worker_threads: Annotated[int, _COUNT]
    worker_cpus: Annotated[Decimal, _CPUS]
    worker_memory: Annotated[int, _MEMORY]
    worker_placement: Annotated[
        tuple[str, ...],
        Setting(parse=placement, example="node.labels.role==data-worker"),
    ]

    scheduler_cpus: Annotated[Decimal, _CPUS]
    scheduler_memory: Annotated[int, _MEMORY]
    notebook_cpus: Annotated[Decimal, _CPUS]
    notebook_memory: Annotated[int, _MEMORY]
    notebook_password: Annotated[
        str, Setting(parse=password, example="--secret notebookPassword", secret=True)
    ] = field(repr=False)
    control_placement: Annotated[
        tuple[str, ...], Setting(parse=placement, example="node.labels.role==master")
    ]

    caddy_mode: Annotated[str, Setting(parse=one_of("external", "none"), example="external")]
    caddy_network: Annotated[str, Setting(parse=network_name, example="caddy-network")]
    health_deadline: Annotated[int, Setting(parse=whole_number(10, 3600), example="300")]

    @classmethod
    def load(cls) -> "Settings":
        """Read the settings of the stack that runs; raises `ConfigError`."""
        prefix = pulumi.get_project() + ":"
        everything = CONFIG.get() or get_config_env()
        config = {
            key.removeprefix(prefix): value
            for key, value in everything.items()
            if key.startswith(prefix)
        }
        encrypted = {key for key in config if is_config_secret(prefix + key)}
        return parse_settings(config, encrypted, os.environ)


def declared_settings() -> dict[str, Setting]:
    """Return how each field of `Settings` is read, by the field's name."""
    hints = get_type_hints(Settings, include_extras=True)
    return {name: get_args(hint)[1] for name, hint in hints.items()}


def key_of(field_name: str) -> str:
    """Return the config key of a field of `Settings`: `worker_cpus` is `workerCpus`."""
    first, *rest = field_name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def parse_settings(
    config: Mapping[str, str], encrypted: Collection[str], environment: Mapping[str, str]
) -> Settings:
    """Turn config values by key into `Settings`; raises one `ConfigError` with every problem.

    `encrypted` are the keys whose values Pulumi keeps as secrets.
    """
    problems = _foreign_context(environment) + _unknown_keys(config)
    values: dict[str, Any] = {}
    for name, setting in declared_settings().items():
        try:
            values[name] = _parse(key_of(name), setting, config, encrypted)
        except ValueError as error:
            problems.append(str(error))
    problems += _misfits(values)
    if problems:
        headline = f"The configuration is not valid ({len(problems)} found)"
        raise ConfigError(headline, problems)
    return Settings(**values)


def complaint(key: str, found: str, allowed: str, example: str) -> str:
    """Return one problem in the form that all of them have."""
    return f"{key}: {found}. Allowed is {allowed}. Example: {example}"


def set_command(key: str, example: str) -> str:
    """Return the command that sets a config key, whose options `example` may bring along."""
    return f"pulumi config set {example if key in example else f'{key} {example}'}"


def _parse(
    key: str, setting: Setting, config: Mapping[str, str], encrypted: Collection[str]
) -> object:
    cure = set_command(key, setting.example)
    if key not in config:
        raise ValueError(complaint(key, "it is not set", "any valid value", cure))
    text = config[key]
    if setting.secret and text and key not in encrypted:
        raise ValueError(complaint(key, "it is kept in plain text", "an encrypted value", cure))
    try:
        return setting.parse(text)
    except ValueError as error:
        found = f"{'the value' if setting.secret else repr(text)} is not valid"
        raise ValueError(complaint(key, found, str(error), cure)) from None


def _foreign_context(environment: Mapping[str, str]) -> list[str]:
    context = environment.get("DOCKER_CONTEXT")
    if not context:
        return []
    found = f"{context!r} is set in the environment and would override the config key dockerHost"
    return [complaint("DOCKER_CONTEXT", found, "no value", "unset DOCKER_CONTEXT")]


def _unknown_keys(config: Mapping[str, str]) -> list[str]:
    known = [key_of(name) for name in declared_settings()]
    return [_unknown_key(key, known) for key in sorted(set(config) - set(known))]


def _unknown_key(key: str, known: list[str]) -> str:
    lowered = {name.lower(): name for name in known}
    nearest = difflib.get_close_matches(key.lower(), lowered, n=1)
    hint = f"; did you mean {lowered[nearest[0]]}?" if nearest else ""
    found = f"there is no such key{hint}"
    return complaint(key, found, "one of " + ", ".join(known), f"pulumi config rm {key}")


def _misfits(values: Mapping[str, Any]) -> list[str]:
    """Return what is wrong between settings that are each valid by themselves."""
    if not {"worker_threads", "worker_cpus"} <= values.keys():
        return []
    threads, worker_cpus = values["worker_threads"], values["worker_cpus"]
    needed = threads * SMALLEST_CPU_PER_THREAD
    if worker_cpus >= needed:
        return []
    found = f"{threads} are too many for workerCpus {worker_cpus}"
    allowed = f"at least {SMALLEST_CPU_PER_THREAD} CPU for each thread"
    return [complaint("workerThreads", found, allowed, set_command("workerCpus", str(needed)))]
