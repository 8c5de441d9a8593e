"""How a resource is created, updated in place, looked up and deleted."""

import base64
import functools
import re
import secrets
import string
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import docker
import docker.errors
import pulumi
from docker.types import IPAMConfig, IPAMPool

from lab.layout import chosen_lab
from lab.rehearsal import certificates
from lab.rehearsal.commands import run_script
from lab.rehearsal.program import Resource
from lab.rehearsal.services import service_arguments
from swarm.client import connect
from swarm.leftovers import COMMAND, NETWORK, PROVIDER, SERVICE, labels_of
from swarm.snapshot import spec_hash

LETTERS = string.ascii_letters + string.digits
ANSWER_SECONDS = 60
DRAIN_SECONDS = 90  # ending tasks keep their network for as long as their grace period
ENDING = re.compile("in use by task|active endpoints|volume is in use|network \\w+ not found")


def create(new: Resource) -> Resource:
    """Create a resource and return it with its id and outputs."""
    identity, outputs = secrets.token_hex(4), {}
    match new.type.split(":"):
        case ["docker", *_]:
            return _create_in_docker(new)
        case ["command", *_]:
            outputs = run_script(new, "create")
        case ["tls", _, kind]:
            outputs = certificates.make(kind, new.inputs)
        case [*_, "RandomPassword"]:
            outputs["result"] = "".join(map(secrets.choice, [LETTERS] * new.inputs["length"]))
        case [*_, "RandomId"]:
            outputs["hex"] = secrets.token_hex(new.inputs["byteLength"])
        case [*_, "RandomUuid"]:
            outputs["result"] = str(uuid.uuid4())
        case ["pulumi", "providers", "docker"]:
            identity = _host_of_this_machine(new.inputs.get("host", ""))
        case _:
            raise ValueError("the rehearsal does not know this type")
    return replace(new, id=identity, outputs=outputs)


def _create_in_docker(new: Resource) -> Resource:
    name = new.inputs.get("name") or f"{new.name}-{secrets.token_hex(4)[:7]}"
    answer = _docker("create", new)(**_arguments(new) | {"name": name})
    identity = answer.get("ID") or answer.get("Id") or answer["Name"]
    made = replace(new, id=identity, outputs={"name": name})
    return _with_subnets(made) if new.type == NETWORK else _with_spec_hash(made)


def _host_of_this_machine(host: str) -> str:
    parts = urlsplit(host)
    is_lab = (parts.scheme, parts.hostname) == ("ssh", chosen_lab().master.address)
    if not (host.startswith("unix://") or is_lab):
        raise pulumi.RunError(
            f"{host!r} is not on this machine, and the rehearsal deploys to this machine only. "
            "Install the Pulumi CLI"
        )
    return host


def can_update(old: Resource, new: Resource) -> bool:
    """Whether a resource can be updated in place."""
    has_same_triggers = old.inputs.get("triggers") == new.inputs.get("triggers")
    return new.type in (SERVICE, PROVIDER) or (new.type == COMMAND and has_same_triggers)


def update(old: Resource, new: Resource) -> Resource:
    """Update a resource in place."""
    if new.type != SERVICE:
        return create(new)
    version = _docker("inspect", old)(old.id)["Version"]["Index"]
    _docker("update", old)(old.id, version, **_arguments(new))
    return _with_spec_hash(replace(new, id=old.id, outputs=old.outputs))


def look_up(old: Resource) -> Resource | None:
    """Return a resource, without inputs if it was changed by hand; None if it is gone."""
    if not old.type.startswith("docker:"):
        return old
    try:
        unchanged = old.outputs == _with_spec_hash(old).outputs
    except docker.errors.NotFound:
        return None
    return old if unchanged else replace(old, inputs={})


def delete_order(key: str) -> int:
    """Return the order of deletion: Commands may end tasks, services use the rest."""
    types = (COMMAND, SERVICE)
    after = len(types)
    if key.endswith("-release"):  # this program waits for the end of the services
        return after
    return next((order for order, type_ in enumerate(types) if key.startswith(type_)), after + 1)


def delete(old: Resource) -> None:
    """Delete a resource, waiting for ending tasks that use it."""
    if old.type == COMMAND:
        run_script(old, "delete")
    if not old.type.startswith("docker:"):
        return
    deadline = time.monotonic() + DRAIN_SECONDS
    while time.monotonic() < deadline:
        try:
            _docker("remove", old)(old.id)
            if not old.type.endswith("Network"):  # a node keeps it for as long as tasks on it end
                return
        except docker.errors.NotFound:
            return
        except docker.errors.APIError as error:
            if not ENDING.search(str(error)):
                raise
        time.sleep(0.2)
    raise TimeoutError(f"tasks still use it after {DRAIN_SECONDS} s")


def _docker(verb: str, resource: Resource) -> Callable[..., Any]:
    noun = resource.type.rpartition(":")[2].lower().replace("serviceconfig", "config")
    method: Callable[..., Any] = getattr(_engine(resource.host), f"{verb}_{noun}")
    return method


@functools.cache
def _engine(host: str) -> docker.APIClient:
    return connect(host, seconds=ANSWER_SECONDS)


def _arguments(new: Resource) -> dict[str, Any]:
    if new.type == SERVICE:
        return service_arguments(new.inputs)
    given = {**new.inputs}
    if "data" in given:
        given["data"] = base64.b64decode(given["data"])
    if "labels" in given:
        given["labels"] = labels_of(given)
    if pools := given.pop("ipamConfigs", None):
        given["ipam"] = IPAMConfig(pool_configs=[IPAMPool(**pool) for pool in pools])
    return given


def _with_subnets(made: Resource) -> Resource:
    """Return a network with its ranges of addresses, once Swarm has given them."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while not (ranges := _docker("inspect", made)(made.id)["IPAM"]["Config"]):
        if time.monotonic() > deadline:
            raise TimeoutError(f"Swarm gave it no addresses within {ANSWER_SECONDS} s")
        time.sleep(0.1)
    found = [{"subnet": part["Subnet"]} for part in ranges]
    return replace(made, outputs=made.outputs | {"ipamConfigs": found})


def _with_spec_hash(made: Resource) -> Resource:
    found = _docker("inspect", made)(made.id)
    hashed = {"spec_hash": spec_hash(found)} if made.type == SERVICE else {}
    return replace(made, outputs=made.outputs | hashed)
