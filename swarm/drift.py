"""Which services drifted from their last proof.

Owns the comparison of services with the proof record. The engine repairs what was changed by hand,
but the program's inputs stay the same: without the record, nothing would run the proof again.
Pure, over the manager's answers.
"""

from collections.abc import Iterable

from swarm.proof_record import Config, is_incomplete, newest, proven_hashes
from swarm.snapshot import Service, spec_hash


def drifted(
    configs: Iterable[Config],
    services: Iterable[Service],
    cluster: str,
    *,
    can_be_complete: bool = True,
) -> str:
    """Return the services of a cluster whose spec is not as it was proven, "" if none.

    Each name comes with the service's version on the Swarm, which differs after every change.
    Workers that were missing at the last proof count once all of them can run.
    """
    record = newest(configs, cluster)
    if record is None:
        return ""
    proven, current = (
        proven_hashes(record),
        {service["Spec"]["Name"]: service for service in services},
    )
    changed = [name for name in sorted(proven) if _hash(current.get(name)) != proven[name]]
    drift = [f"{name} {_version(current.get(name), record)}" for name in changed]
    if can_be_complete and is_incomplete(record):
        drift.append(f"workers that were missing in {record['ID']}")
    return ", ".join(drift)


def _hash(service: Service | None) -> str:
    return spec_hash(service) if service else ""


def _version(service: Service | None, record: Config) -> str:
    # A service may be removed again after the next proof, which has another record.
    return str(service["Version"]["Index"]) if service else f"gone since {record['ID']}"
