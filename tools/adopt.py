"""Finds what of an existing stack can be taken over, and says so in an import file.

    pulumi preview --import-file adopt.json
    DOCKER_HOST=… .venv/bin/python -m tools.adopt --in-place adopt.json
    pulumi import --file adopt.json --protect=false --generate-code=false

The engine writes all that the program would create into the file. What the Swarm has under the
same names, from `docker stack deploy` for example, gets its id there; everything else is taken out
of it, and created by the next `pulumi up`.

With `--in-place` it also takes from the services what the Docker provider would make each anew
for, instead of updating it: labels of its containers, and other aliases than the program's. Their
tasks start anew. Without, nothing on the Swarm is touched by this program.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker.errors import DockerException
from requests.exceptions import RequestException

from components.network import NETWORK_NAME
from components.scheduler import ALIAS
from config.workloads import NOTEBOOK, SCHEDULER, WORKER
from swarm.client import connect

ANSWER_SECONDS = 30
PROVIDER = "pulumi:providers:docker"
# What the program calls it, to what the Swarm does. Configs and secrets have no fixed names: the
# program makes its own.
NAMES = {
    "dask-network-overlay": NETWORK_NAME,
    "dask-scheduler-service": SCHEDULER,
    "dask-workers-service": WORKER,
    "dask-notebook-service": NOTEBOOK,
}
# On the cluster's own network; on any other, and of any other service, there are none.
ALIASES = {SCHEDULER: [ALIAS]}

Entry = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a Swarm has under the program's names: services as the API has them, network ids."""

    services: Mapping[str, Entry]
    networks: Mapping[str, str]

    @property
    def ids(self) -> dict[str, str]:
        """Return name to id of all of it."""
        return {**self.networks} | {name: str(s["ID"]) for name, s in self.services.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite the import file that is named and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.adopt", description="Take over a stack."
    )
    parser.add_argument("file", type=Path, help="what `pulumi preview --import-file` has written")
    parser.add_argument("--in-place", action="store_true", help="keep the services, not the tasks")
    chosen = parser.parse_args(arguments)
    host = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    try:
        planned = _planned(chosen.file)
        with connect(host, seconds=ANSWER_SECONDS) as engine:
            found = _found(engine)
            changed = _make_updatable(engine, found) if chosen.in_place else []
    except (DockerException, RequestException) as error:
        print(f"the Swarm manager at {host}: {error}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    text = json.dumps({"resources": adoption(planned, found.ids)}, indent=2) + "\n"
    chosen.file.write_text(text, encoding="utf-8")
    for name in NAMES.values():
        anew = ", its tasks start anew" if name in changed else ""
        there = name in found.ids
        print(f"{name}: {'taken over' if there else 'not there, pulumi up creates it'}{anew}")
    return 0


def _planned(file: Path) -> list[Entry]:
    """Return all that the engine would create."""
    try:
        return list(json.loads(file.read_text(encoding="utf-8"))["resources"])
    except (ValueError, LookupError, TypeError):
        raise ValueError(f"{file} is not what `pulumi preview --import-file` writes") from None


def _found(engine: "docker.APIClient") -> Found:
    services: list[Any] = engine.services()  # type: ignore[no-untyped-call]
    networks = [each for each in engine.networks() if each["Scope"] == "swarm"]
    named = {each["Spec"]["Name"]: each for each in services}
    return Found(
        services={name: named[name] for name in NAMES.values() if name in named},
        networks={e["Name"]: str(e["Id"]) for e in networks if e["Name"] == NETWORK_NAME},
    )


def _make_updatable(engine: "docker.APIClient", found: Found) -> list[str]:
    """Return the names of the services that had to be changed for it."""
    changed = []
    for name, service in found.services.items():
        before = service["Spec"]["TaskTemplate"]
        after = updatable(name, before, found.networks.get(NETWORK_NAME, ""))
        if after != before:
            version = service["Version"]["Index"]
            engine.update_service(
                service["ID"], version, task_template=after, fetch_current_spec=True
            )
            changed.append(name)
    return changed


def updatable(name: str, template: Mapping[str, Any], network_id: str) -> Entry:
    """Return a service's task template, so that the provider need not make the service anew."""
    after = json.loads(json.dumps(template))
    if after["ContainerSpec"].get("Labels"):
        after["ContainerSpec"]["Labels"] = {}
    for each in after.get("Networks", []):
        wanted = ALIASES.get(name, []) if each["Target"] == network_id else []
        if sorted(each.get("Aliases") or []) != wanted:
            each["Aliases"] = wanted
    return dict(after)


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
    sys.exit(main())
