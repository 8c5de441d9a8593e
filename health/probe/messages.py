"""The messages between launcher and probe: a request in; progress, then proof or failure out.

The probe prints its messages as lines of `MARK` and one JSON object. It has the key `progress` (a
text, sometimes with `members`); the last object has `proof` or `failure`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

MARK = "dask-health: "


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The cluster's size: workers, and the sum of their threads and of their bytes of memory.

    As many as `missing` may be absent, because their nodes are not available.
    """

    workers: int
    threads: int
    memory_bytes: int
    missing: int = 0


@dataclass(frozen=True, kw_only=True)
class Notebook:
    """The notebook's address, and the file with its token or password.

    With `cell` the probe runs a cell in the notebook.
    """

    url: str
    kind: Literal["token", "password"]
    secret_file: str
    cell: bool


@dataclass(frozen=True, kw_only=True)
class Prefect:
    """The API of a Prefect server; a `managed` server starts together with the cluster.

    `variables_file` is a JSON object of environment variables for clients of the server, if any.
    """

    api_url: str
    managed: bool
    variables_file: str | None = None


@dataclass(frozen=True, kw_only=True)
class ObjectStore:
    """A bucket, and the address of its server, empty for Amazon's."""

    bucket: str
    endpoint: str


@dataclass(frozen=True, kw_only=True)
class Tls:
    """The Dask configuration with this stack's certificate, and the file with a foreign one."""

    dask_config: Mapping[str, Any]
    foreign_file: str


_PARTS: dict[str, Any] = {
    "expected": Expected,
    "notebook": Notebook,
    "prefect": Prefect,
    "object_store": ObjectStore,
    "tls": Tls,
}
_LISTS = ("packages", "closed_ports", "closed_urls")


@dataclass(frozen=True, kw_only=True)
class ProbeRequest:
    """What the probe must prove, and its seconds for that.

    With `use` the probe also does what users do on the cluster. The `closed_ports` (`host:port`)
    must refuse connections, the `closed_urls` requests without the ingress's key.
    """

    deadline_seconds: float
    scheduler_address: str
    expected: Expected
    notebook: Notebook | None
    packages: tuple[str, ...]
    use: bool
    prefect: Prefect | None = None
    object_store: ObjectStore | None = None
    tls: Tls | None = None
    closed_ports: tuple[str, ...] = ()
    closed_urls: tuple[str, ...] = ()

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "ProbeRequest":
        """Return the request in plain data, whose keys are the names of the fields."""
        parts = {key: part(**data[key]) for key, part in _PARTS.items() if data.get(key)}
        lists = {key: tuple(data[key]) for key in _LISTS if key in data}
        return cls(**{**data, **parts, **lists})

    @classmethod
    def parse(cls, text: str) -> "ProbeRequest":
        """Return the request in a JSON text."""
        return cls.of(json.loads(text))

    def to_json(self) -> str:
        """Return the JSON text that `parse` reads."""
        return json.dumps(asdict(self))


def say(**content: object) -> None:
    """Print one message for the launcher."""
    print(MARK + json.dumps(content), flush=True)
