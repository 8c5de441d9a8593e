"""Whether anybody has touched the services since they were last proven.

Owns the note that a proof leaves on the Swarm, a config with a hash of each service, and how
the services are held against it. The engine repairs what was changed by hand, but the program's
inputs are the same before and after: without the note nothing would say that it is to be proven
again. Pure, over what the manager says.
"""

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

from swarm.proof_record import SPEC_HASHES, Config, newest, proven_hashes
from swarm.snapshot import spec_hash

Service = Mapping[str, Any]


def note(proof: Mapping[str, Any], attempt: str) -> str:
    """Return the content of the note that belongs to a proof, as a config's data.

    Each attempt leaves another one, even where it proves the same.
    """
    text = json.dumps(
        {"attempt": attempt, SPEC_HASHES: proof.get(SPEC_HASHES, {})}, sort_keys=True
    )
    return base64.b64encode(text.encode()).decode()


def without_imprints(proof: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a proof is for people."""
    return {key: value for key, value in proof.items() if key != SPEC_HASHES}


def touched(configs: Iterable[Config], services: Iterable[Service]) -> str:
    """Return which services are not as they were when they were last proven, "" if none.

    Each with its version on the Swarm, which no two changes have in common.
    """
    last = newest(configs)
    if last is None:
        return ""
    proven, found = proven_hashes(last), {each["Spec"]["Name"]: each for each in services}
    changed = [name for name in sorted(proven) if _imprint(found.get(name)) != proven[name]]
    return ", ".join(f"{name} {_version(found.get(name), last)}" for name in changed)


def _imprint(service: Service | None) -> str:
    return spec_hash(service) if service else ""


def _version(service: Service | None, last: Config) -> str:
    # One that is gone may go again after the next proof, which leaves another note.
    return str(service["Version"]["Index"]) if service else f"gone since {last['ID']}"
