"""Where the program's facts come from: the Swarm or, in an offline preview, the record of it.

Owns the two switches in the environment and what is told of them. `DASK_SWARM_OFFLINE=1` makes a
preview that needs no Docker engine and no network; `DASK_SWARM_RECORD=1` keeps what the Swarm said
for it. Neither changes what is deployed: offline nothing can be.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import pulumi

from config.problems import ConfigError, complaint
from config.settings import Settings
from swarm import site_lock
from swarm.site import Site, look_up
from swarm.site_lock import Used

OFFLINE, RECORD = "DASK_SWARM_OFFLINE", "DASK_SWARM_RECORD"
PROJECT = Path(__file__).parent.parent
# The provider asks an engine behind unix:// or tcp:// who it is before it shows anything, one
# behind ssh:// only when something is to be done there.
NOWHERE = "ssh://preview@preview.invalid"


def find_site(settings: Settings) -> Site:
    """Return what the Swarm has; raises `ConfigError` when it does not fit or cannot be known."""
    path = site_lock.file_of(PROJECT, pulumi.get_stack())
    if not switched_on(OFFLINE, os.environ):
        found = look_up(settings)
        _keep(path, site_lock.record_of(settings, found))
        return found
    if not pulumi.runtime.is_dry_run():
        value = "it is set, and a deployment has to ask the Swarm"
        problem = complaint(OFFLINE, value, "a preview alone", f"unset {OFFLINE}")
        raise ConfigError("Nothing can be deployed offline", [problem])
    recorded, everything = site_lock.site_from(settings, site_lock.read(path), path.name)
    for used in everything:
        _tell(used)
    return recorded


def provider_host(settings: Settings) -> str:
    """Return the engine that the provider is to use, in an offline preview one that it leaves."""
    host = settings.docker_host
    if not switched_on(OFFLINE, os.environ) or host.startswith("ssh://"):
        return host
    pulumi.log.info(f"offline: the provider shows {NOWHERE} for {host}, which it would ask")
    return NOWHERE


def switched_on(name: str, environment: Mapping[str, str]) -> bool:
    """Whether a switch is on; raises `ConfigError` for what is neither on nor off."""
    value = environment.get(name, "")
    if value not in ("", "0", "1"):
        problem = complaint(
            name, f"{value!r} is not valid", "1, 0 or no value", f"export {name}=1"
        )
        raise ConfigError("The environment is not valid", [problem])
    return value == "1"


def sentence(used: Used) -> str:
    """Return what a preview says of one value."""
    told = f"{used.key}: {used.value}, {used.source}"
    return f"{told}. Cure: {used.cure}" if used.cure else told


def _tell(used: Used) -> None:
    say = pulumi.log.warn if used.cure else pulumi.log.info
    say(f"offline: {sentence(used)}")


def _keep(path: Path, now: site_lock.Record) -> None:
    if switched_on(RECORD, os.environ):
        site_lock.write(path, now)
        pulumi.log.info(f"recorded: {', '.join(sorted(now)) or 'nothing'} in {path.name}")
    elif late := site_lock.outdated(site_lock.read(path), now):
        pulumi.log.warn(
            f"{path.name} is behind the Swarm, so offline previews are wrong about "
            f"{', '.join(late)}. Cure: make record"
        )
