"""A service of Pulumi's Docker provider in the terms of the Engine API."""

from collections.abc import Mapping
from typing import Any

from swarm.leftovers import labels_of

Json = Any
SECONDS = {"s": 1, "m": 60, "h": 3600}
DURATIONS = ("delay", "interval", "monitor", "startPeriod", "stopGracePeriod", "timeout", "window")
# Other properties have the same name in the API, with a capital letter.
OTHER_NAMES = {
    "capAdds": "CapabilityAdd",
    "capDrops": "CapabilityDrop",
    "configId": "ConfigID",
    "dnsConfig": "DNSConfig",
    "fileGid": "GID",
    "fileMode": "Mode",
    "fileName": "Name",
    "fileUid": "UID",
    "id": "Target",
    "nanoCpus": "NanoCPUs",
    "networksAdvanceds": "Networks",
    "os": "OS",
    "reservation": "Reservations",
    "searches": "Search",
    "secretId": "SecretID",
    "tests": "Test",
}


def service_arguments(given: Mapping[str, Json]) -> dict[str, Json]:
    """Return the arguments by which the Docker client creates or updates a service."""
    task = _block(given["taskSpec"])
    container = task["ContainerSpec"]
    container.setdefault("DNSConfig", {})  # as the provider sends it
    for mounted in (*container["Secrets"], *container["Configs"]):
        mounted["File"] = {field: mounted.pop(field) for field in ("Name", "UID", "GID", "Mode")}
    return {
        "name": given["name"],
        "labels": labels_of(given),
        "mode": _block(given["mode"]),
        "task_template": task,
        "endpoint_spec": _block(given["endpointSpec"]),
        "update_config": _block(given["updateConfig"]),
        "rollback_config": _block(given["rollbackConfig"]),
    }


def _block(given: Mapping[str, Json]) -> dict[str, Json]:
    return {
        OTHER_NAMES.get(name, name[0].upper() + name[1:]): _value(name, value)
        for name, value in given.items()
    }


def _value(name: str, value: Json) -> Json:
    match name, value:
        case "env", _:
            return [f"{variable}={text}" for variable, text in value.items()]
        case "global", _:
            return {}
        case "maxFailureRatio", _:
            return float(value)
        case "options", _:
            return value
        case _, str() if name in DURATIONS:
            return SECONDS[value[-1]] * int(value[:-1]) * 10**9
        case _, dict():
            return _block(value)
        case _, list():
            return [_block(item) if isinstance(item, dict) else item for item in value]
    return value
