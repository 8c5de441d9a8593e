"""Which services drifted from their last proof.

Owns the data of the proof record and the comparison of services with it. The engine repairs what
was changed by hand, but the program's inputs stay the same: without the record, nothing would run
the proof again. Pure, over the manager's answers.
"""

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

from swarm.proof_record import SPEC_HASHES, Config, newest, proven_hashes
from swarm.snapshot import Service, spec_hash


def record_data(proof: Mapping[str, Any], attempt: str) -> str:
    """Return the data of a proof's record, for a Swarm config; it differs for each attempt."""
    text = json.dumps(
        {"attempt": attempt, SPEC_HASHES: proof.get(SPEC_HASHES, {})}, sort_keys=True
    )
    return base64.b64encode(text.encode()).decode()


def without_spec_hashes(proof: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a proof that is for people."""
    return {key: value for key, value in proof.items() if key != SPEC_HASHES}


def drifted(configs: Iterable[Config], services: Iterable[Service]) -> str:
    """Return the services whose spec is not as it was proven, "" if none.

    Each name comes with the service's version on the Swarm, which differs after every change.
    """
    record = newest(configs)
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
