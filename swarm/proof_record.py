"""The proof record: a Swarm config with what the last proof found.

It has the spec hash of each service, and the versions of Dask and its dependencies.
"""

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

MISSING = "missing"  # key in both, if workers were missing
SPEC_HASHES = "imprints"  # key in the record and in the launcher's output
VERSIONS = "versions"  # the same

Config = Mapping[str, Any]


def record_name(cluster: str) -> str:
    """Return the name of a cluster's record, to which the engine adds a suffix."""
    return f"{cluster}-health-proven"


def record_data(proof: Mapping[str, Any], attempt: str) -> str:
    """Return the data of a proof's record, for a Swarm config; it differs for each attempt."""
    incomplete = {MISSING: proof[MISSING]} if MISSING in proof else {}
    record = {
        "attempt": attempt,
        SPEC_HASHES: proof.get(SPEC_HASHES, {}),
        VERSIONS: proof.get(VERSIONS, {}),
        **incomplete,
    }
    text = json.dumps(record, sort_keys=True)
    return base64.b64encode(text.encode()).decode()


def without_spec_hashes(proof: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a proof that is for people."""
    return {key: value for key, value in proof.items() if key != SPEC_HASHES}


def newest(configs: Iterable[Config], cluster: str) -> Config | None:
    """Return the record of a cluster's last proof, None without a proof.

    While a new record replaces the old one, both exist.
    """
    name = record_name(cluster)
    records = [c for c in configs if c["Spec"]["Name"].rpartition("-")[0] == name]
    return max(records, key=lambda record: str(record["CreatedAt"]), default=None)


def proven_hashes(record: Config | None) -> dict[str, str]:
    """Return service name to spec hash at the last proof, empty without a record."""
    if record is None:
        return {}
    return dict(_content(record)[SPEC_HASHES])


def proven_versions(record: Config | None) -> dict[str, str]:
    """Return package to version at the last proof, empty if the record does not have them."""
    if record is None:
        return {}
    return dict(_content(record).get(VERSIONS, {}))


def is_incomplete(record: Config) -> bool:
    """Return whether workers were missing at the proof."""
    return MISSING in _content(record)


def _content(record: Config) -> dict[str, Any]:
    return dict(json.loads(base64.b64decode(record["Spec"]["Data"])))
