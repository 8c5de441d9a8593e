"""Which services drifted from their last proof.

Owns the comparison of services with the proof record. The engine repairs what was changed by hand,
but the program's inputs stay the same: without the record, nothing would run the proof again.
Pure, over the manager's answers.
"""

from collections.abc import Iterable

from swarm.proof_record import Config, newest, proven_hashes
from swarm.snapshot import Service, spec_hash


def drifted(configs: Iterable[Config], services: Iterable[Service], cluster: str) -> str:
    """Return the services of a cluster whose spec is not as it was proven, "" if none.

    Each name comes with the service's version on the Swarm, which differs after every change.
    """
    record = newest(configs, cluster)
    if record is None:
        return ""
    proven, current = (
        proven_hashes(record),
        {service["Spec"]["Name"]: service for service in services},
    )
    changed = [name for name in sorted(proven) if _hash(current.get(name)) != proven[name]]
    return ", ".join(f"{name} {_version(current.get(name), record)}" for name in changed)


def _hash(service: Service | None) -> str:
    return spec_hash(service) if service else ""


def _version(service: Service | None, record: Config) -> str:
    # A service may be removed again after the next proof, which has another record.
    return str(service["Version"]["Index"]) if service else f"gone since {record['ID']}"
