"""What the launcher is asked to prove: one JSON object on its standard input."""

import json
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The cluster's size: workers, threads, bytes of memory altogether; workers on one node."""

    workers: int
    threads: int
    memory_bytes: int
    workers_per_node: int


@dataclass(frozen=True, kw_only=True)
class Notebook:
    """Where the notebook answers on the overlay, and the Swarm secret that opens it.

    With `cell` the probe runs a cell there.
    """

    url: str
    kind: Literal["token", "password"]
    secret_id: str
    secret_name: str
    cell: bool


@dataclass(frozen=True, kw_only=True)
class Prefect:
    """The API of a Prefect server, which may be one of the services (`managed`).

    The Swarm secret is the JSON object of environment variables that work gets.
    """

    api_url: str
    managed: bool
    secret_id: str
    secret_name: str


@dataclass(frozen=True, kw_only=True)
class ObjectStore:
    """A bucket for the workers to use, and the server that has it; Amazon's where it is empty."""

    bucket: str
    endpoint: str


@dataclass(frozen=True, kw_only=True)
class Request:
    """Everything that the launcher is told; `services` is name to the revision to wait for.

    Those in `healthy` are not the probe's to prove: their own health checks do. The keys of the
    JSON object are the names of the fields.
    """

    deadline_seconds: float
    image: str
    constraints: tuple[str, ...]
    scheduler_address: str
    network_id: str
    services: dict[str, str]
    healthy: tuple[str, ...]
    expected: Expected
    notebook: Notebook | None
    packages: tuple[str, ...]
    use: bool
    prefect: Prefect | None = None
    object_store: ObjectStore | None = None

    @classmethod
    def parse(cls, text: str) -> "Request":
        """Read a request; raises `ValueError` when it is not one."""
        try:
            data = json.loads(text, parse_float=_number)
            data["expected"] = Expected(**data["expected"])
            data["notebook"] = Notebook(**data["notebook"]) if data["notebook"] else None
            data["prefect"] = Prefect(**data["prefect"]) if data.get("prefect") else None
            data["healthy"] = tuple(data["healthy"])
            data["constraints"] = tuple(data["constraints"])
            data["packages"] = tuple(data["packages"])
            store = data.get("object_store")
            data["object_store"] = ObjectStore(**store) if store else None
            return cls(**data)
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"the request on standard input is not understood: {error}") from None


def _number(text: str) -> float:
    # The manager knows no whole numbers: 4 may arrive as 4.0.
    number = float(text)
    return int(number) if number.is_integer() else number
