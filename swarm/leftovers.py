"""What a killed deployment has left on the Swarm: objects that its state does not have.

Owns how these objects are recognized. The engine records every creation in the state before it
begins, with the inputs. A config or secret has a random suffix in its name. A service has its
declared hash in a label, and a network a random value. An object that only shares the name belongs
to another stack and stays.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swarm.manager import PROBE_LABELS, Manager
from swarm.progress import Progress
from swarm.shutdown import end_tasks

COMMAND = "command:local:Command"
SERVICE = "docker:index/service:Service"
NETWORK = "docker:index/network:Network"
PROVIDER = "pulumi:providers:docker"
KINDS = {
    SERVICE: "service",
    NETWORK: "network",
    "docker:index/serviceConfig:ServiceConfig": "config",
    "docker:index/secret:Secret": "secret",
}
UNIQUE_NAMES = ("config", "secret")  # the engine adds a random suffix

State = Mapping[str, Any]  # as `pulumi stack export` prints it, the part under `deployment`
Resource = dict[str, Any]
Object = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """An object on the Swarm; another stack's unless `is_own`."""

    kind: str
    name: str
    id: str
    is_own: bool
    can_scale: bool = False

    def __str__(self) -> str:
        """Return the kind and the name."""
        return f"{self.kind} {self.name}"


def unfinished_creations(state: State) -> list[Resource]:
    """Return the resources whose creation the engine has begun and not finished."""
    pending = state.get("pending_operations") or []
    return [entry["resource"] for entry in pending if entry["type"] == "creating"]


def unfinished_replacements(state: State) -> list[Resource]:
    """Return the deleted objects whose replacement was not created.

    If their deletion was part of another resource's replacement, the engine deletes them again.
    """
    return [r for r in resources(state) if r["type"] in KINDS and r.get("pendingReplacement")]


def unfinished_programs(state: State) -> list[Mapping[str, Any]]:
    """Return the inputs of new Commands that may have made what their deletion removes."""
    known = {resource["urn"] for resource in resources(state)}
    commands = [r for r in unfinished_creations(state) if r["type"] == COMMAND]
    inputs = [command["inputs"] for command in commands if command["urn"] not in known]
    return [given for given in inputs if {"create", "delete"} <= given.keys()]


def services_without_shutdown(state: State) -> list[str]:
    """Return the replicated services of a state that lacks the shutdown, by name.

    The shutdown is created after all services, so an unfinished `up` may not have it.
    """
    commands = [r["inputs"] for r in resources(state) if r["type"] == COMMAND]
    if any("create" not in inputs for inputs in commands):
        return []
    services = [r["inputs"] for r in resources(state) if r["type"] == SERVICE]
    return [inputs["name"] for inputs in services if "replicated" in inputs["mode"]]


def hosts(state: State) -> set[str]:
    """Return the addresses of the managers where the state's resources are."""
    providers = [r for r in resources(state) if r["type"] == PROVIDER]
    return {provider["inputs"]["host"] for provider in providers if "host" in provider["inputs"]}


def resources(state: State) -> list[Resource]:
    """Return the resources that the state has."""
    return state.get("resources") or []


def find(manager: Manager, state: State) -> list[Leftover]:
    """Return the leftovers, the services first because they use the other objects."""
    known = {resource.get("id") for resource in resources(state)}
    found = [*_probes(manager, known)]
    for type_, kind in KINDS.items():
        created = [r["inputs"] for r in unfinished_creations(state) if r["type"] == type_]
        unknown = [obj for obj in manager.objects(kind) if _id(obj) not in known]
        found += _named(kind, created, unknown)
    return found


def _named(
    kind: str, created: Sequence[Mapping[str, Any]], unknown: Sequence[Object]
) -> Iterator[Leftover]:
    for obj in unknown:
        name, labels = _spec(obj)["Name"], _spec(obj).get("Labels") or {}
        same = [labels_of(inputs) for inputs in created if inputs.get("name") == name]
        if same:
            is_own = any(_is_same(kind, declared, labels) for declared in same)
            yield _leftover(kind, obj, is_own=is_own)


def _is_same(kind: str, declared: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return bool(declared or kind in UNIQUE_NAMES) and declared.items() <= labels.items()


def _probes(manager: Manager, known: set[str | None]) -> Iterator[Leftover]:
    """Yield the services of probes on the state's networks."""
    for service in manager.labelled(PROBE_LABELS).services.values():
        networks = service["Spec"]["TaskTemplate"].get("Networks") or []
        if known & {network["Target"] for network in networks}:
            yield _leftover("service", service, is_own=True)


def _leftover(kind: str, obj: Object, *, is_own: bool) -> Leftover:
    can_scale = "Replicated" in _spec(obj).get("Mode", {})
    name = _spec(obj)["Name"]
    return Leftover(kind=kind, name=name, id=_id(obj), is_own=is_own, can_scale=can_scale)


def _spec(obj: Object) -> Object:
    return dict(obj.get("Spec", obj))  # a network has none


def _id(obj: Object) -> str:
    return str(obj.get("ID") or obj["Id"])


def labels_of(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels in the inputs of a service or a network."""
    return {entry["label"]: entry["value"] for entry in inputs.get("labels") or []}


def remove(
    manager: Manager, leftovers: Sequence[Leftover], ending: Sequence[str], progress: Progress
) -> None:
    """Remove this stack's own leftovers, in the given order, and end the tasks of `ending`."""
    own = [leftover for leftover in leftovers if leftover.is_own]
    # Networks stay in use until the tasks have ended.
    scaled = [leftover.name for leftover in own if leftover.can_scale]
    end_tasks(manager, [*scaled, *ending], progress)
    for leftover in own:
        manager.remove(leftover.id, leftover.kind)
        progress.log(f"removed the {leftover}, which a killed deployment has left")
