"""The rules that every preview is held against, whatever the settings and whoever changed them.

Pure: from the registered resources to sentences, none when all rules hold. They repeat what the
components promise on purpose, so that a change of a component cannot change its own judge.
"""

import json
from collections.abc import Callable, Iterator, Sequence

from lab.config import NOT_DECRYPTED
from preview.registered import Resource

SERVICE = "docker:index/service:Service"
PUBLISHED = {"dask_caddy": {80, 443}}
# Where a secret may go, by type and input; everywhere else somebody could read it.
KEEPS_SECRETS = {
    "docker:index/secret:Secret": {"data"},
    "docker:index/serviceConfig:ServiceConfig": {"data"},
    "command:local:Command": {"stdin"},
}
MARKS = (NOT_DECRYPTED, "generated-")

Rule = Callable[[Resource], Iterator[str]]


def findings(resources: Sequence[Resource]) -> list[str]:
    """Return what breaks a rule, one sentence each, in the order of the resources."""
    found = []
    for resource in resources:
        rules = [*SERVICE_RULES, secret_stays] if resource.type == SERVICE else [secret_stays]
        found += [f"{resource.name}: {each}" for rule in rules for each in rule(resource)]
    return found


def is_limited(service: Resource) -> Iterator[str]:
    """A service may not take a node for itself."""
    limits = service.inputs["taskSpec"].get("resources", {}).get("limits", {})
    for name, unit in (("CPU", "nanoCpus"), ("memory", "memoryBytes")):
        if not limits.get(unit):
            yield f"it has no limit of {name}"


def is_checked(service: Resource) -> Iterator[str]:
    """A service that hangs must be noticed."""
    tests = service.inputs["taskSpec"]["containerSpec"].get("healthcheck", {}).get("tests", [])
    if not tests or tests == ["NONE"]:
        yield "it has no health check"


def is_pinned(service: Resource) -> Iterator[str]:
    """What runs must be what was looked at; a tag of a recorded image comes with its digest."""
    image = service.inputs["taskSpec"]["containerSpec"]["image"]
    name, _, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    if tag == "latest" or not (tag or digest):
        yield f"its image {image} is another one every time (no tag, or latest)"


def is_closed(service: Resource) -> Iterator[str]:
    """Nobody reaches a service from outside but by Caddy."""
    name = service.inputs["name"]
    for port in service.inputs.get("endpointSpec", {}).get("ports", []):
        number = port.get("publishedPort") or port.get("targetPort")
        if number not in PUBLISHED.get(name, set()):
            yield f"it publishes port {number}"


def is_unprivileged(service: Resource) -> Iterator[str]:
    """Code from a notebook gets no privilege of the kernel's."""
    if service.inputs["taskSpec"]["containerSpec"].get("capDrops") != ["ALL"]:
        yield "it keeps capabilities"


def secret_stays(resource: Resource) -> Iterator[str]:
    """A secret has one path, and it is not an environment variable, an argument or a label."""
    kept = KEEPS_SECRETS.get(resource.type, set())
    for name, value in sorted(resource.inputs.items()):
        if name in kept and name in resource.secret:
            continue
        if any(mark in json.dumps(value) for mark in MARKS):
            yield f"a secret can be read in its {name}"


SERVICE_RULES: Sequence[Rule] = (is_limited, is_checked, is_pinned, is_closed, is_unprivileged)
