"""Write the ids of an existing stack's services and network into a Pulumi import file.

    pulumi preview --import-file adopt.json
    DOCKER_HOST=… .venv/bin/python -m tools.adopt --in-place adopt.json
    pulumi import --file adopt.json --protect=false --generate-code=false

The engine writes every resource of the program into the file. A resource that already exists on
the Swarm under the same name, from `docker stack deploy` for example, gets its id. The others are
removed from the file, and the next `pulumi up` creates them.

`--in-place` also updates the services: it removes container labels, and aliases that the program
does not declare. The Docker provider would replace a service that has either. The tasks of updated
services restart. Without `--in-place` nothing on the Swarm changes.
"""

import argparse
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker.errors import DockerException
from requests.exceptions import RequestException

from components.scheduler import ALIAS
from config.names import network_name, service_name
from swarm.client import connect
from swarm.leftovers import PROVIDER
from swarm.manager import manager_address

ANSWER_SECONDS = 30
CLUSTER = "dask:swarm:DaskCluster"
# Of a service on its cluster's own network. Other services and other networks have no aliases.
ALIASES = {"scheduler": [ALIAS]}

Entry = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ExistingStack:
    """What a Swarm has under the program's names: services as in Docker's API, network ids."""

    services: Mapping[str, Entry]
    networks: Mapping[str, str]

    @property
    def ids(self) -> dict[str, str]:
        """Return the ids of services and networks by name."""
        return {**self.networks} | {name: str(s["ID"]) for name, s in self.services.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite the import file and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.adopt", description="Take over a stack."
    )
    parser.add_argument("file", type=Path, help="what `pulumi preview --import-file` has written")
    parser.add_argument(
        "--in-place", action="store_true", help="update services so that they need no replacement"
    )
    chosen = parser.parse_args(arguments)
    host = manager_address()
    try:
        planned = _read_plan(chosen.file)
        names = swarm_names(_cluster(planned)).values()
        with connect(host, seconds=ANSWER_SECONDS) as engine:
            existing = _find_existing(engine, names)
            changed = _make_updatable(engine, existing) if chosen.in_place else []
    except (DockerException, RequestException) as error:
        print(f"the Swarm manager at {host}: {error}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    text = json.dumps({"resources": adoption(planned, existing.ids)}, indent=2) + "\n"
    chosen.file.write_text(text, encoding="utf-8")
    for name in names:
        restart = ", its tasks restart" if name in changed else ""
        result = "adopted" if name in existing.ids else "missing, pulumi up creates it"
        print(f"{name}: {result}{restart}")
    return 0


def _read_plan(file: Path) -> list[Entry]:
    """Return every resource that the engine would create."""
    try:
        planned = list(json.loads(file.read_text(encoding="utf-8"))["resources"])
        _cluster(planned)
    except (ValueError, LookupError, TypeError, StopIteration):
        raise ValueError(f"{file} is not what `pulumi preview --import-file` writes") from None
    return planned


def _cluster(planned: Sequence[Entry]) -> str:
    """Return the name of the planned cluster."""
    return str(next(entry["name"] for entry in planned if entry["type"] == CLUSTER))


def swarm_names(cluster: str) -> dict[str, str]:
    """Return logical names to names on the Swarm.

    Configs and secrets have no fixed names: the program creates its own.
    """
    roles = {"scheduler": "scheduler", "workers": "worker", "notebook": "notebook"}
    return {
        f"{cluster}-network-overlay": network_name(cluster),
        **{f"{cluster}-{part}-service": service_name(cluster, roles[part]) for part in roles},
    }


def _find_existing(engine: "docker.APIClient", names: Collection[str]) -> ExistingStack:
    services: list[Any] = engine.services()  # type: ignore[no-untyped-call]
    networks = [network for network in engine.networks() if network["Scope"] == "swarm"]
    by_name = {service["Spec"]["Name"]: service for service in services}
    return ExistingStack(
        services={name: by_name[name] for name in names if name in by_name},
        networks={n["Name"]: str(n["Id"]) for n in networks if n["Name"] in names},
    )


def _make_updatable(engine: "docker.APIClient", existing: ExistingStack) -> list[str]:
    """Update services that the provider would replace; return their names."""
    changed = []
    for name, service in existing.services.items():
        before = service["Spec"]["TaskTemplate"]
        after = updatable(name, before, next(iter(existing.networks.values()), ""))
        if after != before:
            version = service["Version"]["Index"]
            engine.update_service(
                service["ID"], version, task_template=after, fetch_current_spec=True
            )
            changed.append(name)
    return changed


def updatable(name: str, template: Mapping[str, Any], network_id: str) -> Entry:
    """Return a task template that the provider can update without replacing the service."""
    after = json.loads(json.dumps(template))
    if after["ContainerSpec"].get("Labels"):
        after["ContainerSpec"]["Labels"] = {}
    for network in after.get("Networks", []):
        aliases = (
            ALIASES.get(name.partition("_")[2], []) if network["Target"] == network_id else []
        )
        if sorted(network.get("Aliases") or []) != aliases:
            network["Aliases"] = aliases
    return dict(after)


def adoption(planned: Sequence[Entry], ids: Mapping[str, str]) -> list[Entry]:
    """Return the planned resources that exist, with their ids, and their parents."""
    names = swarm_names(_cluster(planned))
    existing = [
        {**entry, "id": ids[names[entry["name"]]]}
        for entry in planned
        if entry["type"].startswith("docker:") and names.get(entry["name"]) in ids
    ]
    needed = _ancestors({entry["parent"] for entry in existing}, planned)
    parents = [entry for entry in planned if entry["type"] == PROVIDER or entry["name"] in needed]
    return [*parents, *existing] if existing else []


def _ancestors(names: set[str], planned: Sequence[Entry]) -> set[str]:
    parents = {entry.get("parent") for entry in planned if entry["name"] in names}
    further = {parent for parent in parents if parent} - names
    return _ancestors(names | further, planned) if further else names


if __name__ == "__main__":
    sys.exit(main())
