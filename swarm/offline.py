"""The site from the Swarm or, for an offline preview, from the record of it.

Owns the two switches in the environment and what the program prints about them.
`DASK_SWARM_OFFLINE=1` makes a preview without a Docker engine and without a network;
`DASK_SWARM_RECORD=1` records the Swarm's answers for it. An offline run cannot deploy.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import pulumi

from config.problems import ConfigError, Problem
from config.settings import Settings
from swarm import site, site_lock
from swarm.client import PROJECT
from swarm.site import Site

OFFLINE, RECORD = "DASK_SWARM_OFFLINE", "DASK_SWARM_RECORD"
# At a preview the provider connects to an engine behind unix:// or tcp://, but not behind ssh://.
NOWHERE = "ssh://preview@preview.invalid"


def find_site(settings: Settings) -> Site:
    """Return the site; raises `ConfigError` when the Swarm does not fit or cannot be asked."""
    path = site_lock.path_of(PROJECT, pulumi.get_stack())
    if not switched_on(OFFLINE, os.environ):
        current = site.find(settings)
        for warning in current.warnings:
            pulumi.log.warn(warning)
        _update_record(path, site_lock.record_of(settings, current))
        return current
    if not pulumi.runtime.is_dry_run():
        problem = Problem(
            key=OFFLINE,
            found="set, but a deployment must ask the Swarm",
            expected="a preview only",
            fix=f"unset {OFFLINE}",
        )
        raise ConfigError("Nothing can be deployed offline", [problem])
    recorded, used_values = site_lock.site_from(settings, site_lock.read(path), path.name)
    for used in used_values:
        log = pulumi.log.warn if used.fix else pulumi.log.info
        log(f"offline: {used}")
    return recorded


def provider_host(settings: Settings) -> str:
    """Return the provider's engine; at an offline preview an engine that it never connects to."""
    host = settings.cluster.docker_host
    if not switched_on(OFFLINE, os.environ) or host.startswith("ssh://"):
        return host
    pulumi.log.info(
        f"offline: the provider shows {NOWHERE} instead of {host}, which it would connect to"
    )
    return NOWHERE


def switched_on(name: str, environment: Mapping[str, str]) -> bool:
    """Return whether a switch is on; raises `ConfigError` for other values than 0 and 1."""
    value = environment.get(name, "")
    if value not in ("", "0", "1"):
        problem = Problem(
            key=name,
            found=f"{value!r} is not valid",
            expected="1, 0 or no value",
            fix=f"export {name}=1",
        )
        raise ConfigError("The environment is not valid", [problem])
    return value == "1"


def _update_record(path: Path, record: site_lock.Record) -> None:
    if switched_on(RECORD, os.environ):
        site_lock.write(path, record)
        pulumi.log.info(f"recorded: {', '.join(sorted(record)) or 'nothing'} in {path.name}")
    elif keys := site_lock.outdated(site_lock.read(path), record):
        pulumi.log.warn(
            f"{path.name} is behind the Swarm, so offline previews are wrong about "
            f"{', '.join(keys)}; fix: {site_lock.record_command(path.name)}"
        )
