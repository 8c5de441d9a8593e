"""Finds what of an existing stack can be taken over, and says so in an import file.

    pulumi preview --import-file adopt.json
    DOCKER_HOST=… .venv/bin/python -m adopt adopt.json
    pulumi import --file adopt.json --protect=false --generate-code=false

The engine writes all that the program would create into the file. What the Swarm has under the
same names, from `docker stack deploy` for example, gets its id there; everything else is taken out
of it, and created by the next `pulumi up`. Nothing on the Swarm is touched by this program.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from docker.errors import DockerException
from requests.exceptions import RequestException

from components.network import NETWORK_NAME
from remote.engine import connect

ANSWER_SECONDS = 30
PROVIDER = "pulumi:providers:docker"
# What the program calls it, to what the Swarm does. Configs and secrets have no fixed names: the
# program makes its own.
NAMES = {
    "dask-network-overlay": NETWORK_NAME,
    "dask-scheduler-service": "dask_scheduler",
    "dask-workers-service": "dask_worker",
    "dask-notebook-service": "dask_notebook",
}

Entry = dict[str, Any]


def main(arguments: Sequence[str]) -> int:
    """Rewrite the import file that is named and return the exit code."""
    if len(arguments) != 1:
        print("which file? python -m adopt adopt.json", file=sys.stderr)
        return 2
    file, host = Path(arguments[0]), os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    try:
        plan = json.loads(file.read_text(encoding="utf-8"))
        ids = _ids_at(host)
    except (OSError, ValueError, DockerException, RequestException) as error:
        print(f"{error}", file=sys.stderr)
        return 1
    adopted = adoption(plan["resources"], ids)
    file.write_text(json.dumps({"resources": adopted}, indent=2) + "\n", encoding="utf-8")
    for logical, name in NAMES.items():
        taken = any(each["name"] == logical for each in adopted)
        print(f"{name}: {'taken over' if taken else 'not there, pulumi up creates it'}")
    return 0


def _ids_at(host: str) -> dict[str, str]:
    """Return name to id of the Swarm's services and of its networks."""
    with connect(host, seconds=ANSWER_SECONDS) as engine:
        services: list[Any] = engine.services()  # type: ignore[no-untyped-call]
        networks = [each for each in engine.networks() if each["Scope"] == "swarm"]
    named = {each["Name"]: str(each["Id"]) for each in networks}
    return named | {each["Spec"]["Name"]: str(each["ID"]) for each in services}


def adoption(planned: Sequence[Entry], ids: Mapping[str, str]) -> list[Entry]:
    """Return of what is planned that which is there, with its id, and what holds it."""
    there = [
        {**each, "id": ids[NAMES[each["name"]]]}
        for each in planned
        if each["type"].startswith("docker:") and NAMES.get(each["name"]) in ids
    ]
    needed = _ancestors({each["parent"] for each in there}, planned)
    holders = [each for each in planned if each["type"] == PROVIDER or each["name"] in needed]
    return [*holders, *there] if there else []


def _ancestors(names: set[str], planned: Sequence[Entry]) -> set[str]:
    parents = {each.get("parent") for each in planned if each["name"] in names}
    further = {each for each in parents if each} - names
    return _ancestors(names | further, planned) if further else names


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
