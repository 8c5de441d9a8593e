"""The launcher's request: one JSON object on its standard input."""

import json
from dataclasses import dataclass
from typing import Any

from health.probe.messages import ProbeRequest
from swarm.manager import cluster_of

# Part of the request to the field that the probe reads, and the file in its container.
_SECRET_FILES = {
    "notebook": ("secret_file", "dask-health-notebook"),
    "prefect": ("variables_file", "dask-health-environment"),
    "tls": ("foreign_file", "dask-health-foreign"),
}


@dataclass(frozen=True, kw_only=True)
class File:
    """A Swarm secret or config, and its file in the probe's container, as services name it."""

    id: str
    name: str
    file: str


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to prove (`probe`), and how the probe runs in the Swarm.

    `platforms` are such as `linux/amd64`, as `constraints` those of the nodes that may run it.
    `services` is service name to declared hash. The health checks of the services in
    `healthy` prove them; the probe proves the others. It is on the cluster's network and, because
    of the notebook, on Caddy's, if any. `probe.deadline_seconds` is for all of it.
    """

    image: str
    constraints: tuple[str, ...]
    platforms: tuple[str, ...]
    network_id: str
    other_network_ids: tuple[str, ...]
    network_name: str
    caddy_network_id: str | None
    services: dict[str, str]
    healthy: tuple[str, ...]
    workers_per_node: int
    secrets: tuple[File, ...]
    configs: tuple[File, ...]
    probe: ProbeRequest

    @property
    def cluster(self) -> str:
        """The name of the cluster."""
        return cluster_of(next(iter(self.services)))

    @classmethod
    def parse(cls, text: str) -> "Request":
        """Read a request; raises `ValueError` for an invalid one.

        The JSON object has the probe's fields beside the launcher's. Instead of the file of a
        secret it has `secret_id` and `secret_name`.
        """
        try:
            data = json.loads(text, parse_float=_number)
            return cls(
                image=data.pop("image"),
                constraints=tuple(data.pop("constraints")),
                platforms=tuple(data.pop("platforms")),
                network_id=data.pop("network_id"),
                other_network_ids=tuple(data.pop("other_network_ids", ())),
                network_name=data.pop("network_name"),
                caddy_network_id=data.pop("caddy_network_id"),
                services=data.pop("services"),
                healthy=tuple(data.pop("healthy")),
                workers_per_node=data["expected"].pop("workers_per_node"),
                secrets=(*_take_secrets(data), *_take_files(data, "secrets")),
                configs=tuple(_take_files(data, "configs")),
                probe=ProbeRequest.of(data),
            )
        except (AttributeError, TypeError, KeyError, ValueError) as error:
            raise ValueError(f"the request on standard input is not understood: {error}") from None


def _take_files(data: dict[str, Any], key: str) -> list[File]:
    return [File(**file) for file in data.pop(key, [])]


def _take_secrets(data: dict[str, Any]) -> list[File]:
    secrets = []
    for key, (field, file) in _SECRET_FILES.items():
        if part := data.get(key):
            identity, name = part.pop("secret_id"), part.pop("secret_name")
            secrets.append(File(id=identity, name=name, file=file))
            part[field] = f"/run/secrets/{file}"
    return secrets


def _number(text: str) -> float:
    # Pulumi has no integers: 4 may arrive as 4.0.
    number = float(text)
    return int(number) if number.is_integer() else number
