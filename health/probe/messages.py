"""What launcher and probe tell each other: an order in; progress, proof or failure out.

What is printed for the launcher are lines of `MARK` and one JSON object with the key `progress` (a
text, and perhaps `members`), at the end with `proof` or `failure`.
"""

import json
from dataclasses import dataclass
from typing import Literal

MARK = "dask-health: "


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The cluster's size: workers, their threads and bytes of memory, all together."""

    workers: int
    threads: int
    memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class Notebook:
    """Where the notebook answers, and the file with its token or password.

    With `cell` a cell is run there.
    """

    url: str
    kind: Literal["token", "password"]
    secret_file: str
    cell: bool


@dataclass(frozen=True, kw_only=True)
class Prefect:
    """The API of a Prefect server; one that is `managed` starts together with the cluster.

    `variables_file` is a JSON object of environment variables that work with it needs, if any.
    """

    api_url: str
    managed: bool
    variables_file: str | None = None


@dataclass(frozen=True, kw_only=True)
class ObjectStore:
    """A bucket, and the address of the server that has it, empty for Amazon's."""

    bucket: str
    endpoint: str


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to prove, and the seconds there are for it.

    With `use` the probe also does on the cluster what its users do.
    """

    deadline_seconds: float
    scheduler_address: str
    expected: Expected
    notebook: Notebook | None
    packages: tuple[str, ...]
    use: bool
    prefect: Prefect | None = None
    object_store: ObjectStore | None = None

    @classmethod
    def parse(cls, text: str) -> "Order":
        """Read an order from JSON with the fields' names as keys."""
        data = json.loads(text)
        notebook, prefect = data["notebook"], data.get("prefect")
        store = data.get("object_store")
        return cls(
            deadline_seconds=data["deadline_seconds"],
            scheduler_address=data["scheduler_address"],
            expected=Expected(**data["expected"]),
            notebook=Notebook(**notebook) if notebook else None,
            packages=tuple(data["packages"]),
            prefect=Prefect(**prefect) if prefect else None,
            use=data["use"],
            object_store=ObjectStore(**store) if store else None,
        )


def say(**content: object) -> None:
    """Print one line for the launcher."""
    print(MARK + json.dumps(content), flush=True)
