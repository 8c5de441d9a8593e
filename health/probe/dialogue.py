"""What launcher and probe tell each other: an order in; progress, proof or failure out.

What is printed for the launcher are lines of `MARK` and one JSON object with the key `progress` (a
text, and perhaps `members`), at the end with `proof` or `failure`.
"""

import json
from dataclasses import dataclass

MARK = "dask-health: "


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The cluster's size: workers, their threads and bytes of memory, all together."""

    workers: int
    threads: int
    memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class Notebook:
    """Where the notebook answers; `token_file` is None when only its refusals can be tested.

    One that `is_open` has no login of its own, and lets in whoever is on its networks.
    """

    url: str
    token_file: str | None
    is_open: bool = False


@dataclass(frozen=True, kw_only=True)
class ObjectStore:
    """A bucket, and the address of the server that has it, empty for Amazon's."""

    bucket: str
    endpoint: str


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to prove, and the seconds there are for it."""

    deadline_seconds: float
    scheduler_address: str
    expected: Expected
    notebook: Notebook | None
    packages: tuple[str, ...]
    object_store: ObjectStore | None

    @classmethod
    def parse(cls, text: str) -> "Order":
        """Read an order from JSON with the fields' names as keys."""
        data = json.loads(text)
        notebook = data["notebook"]
        return cls(
            deadline_seconds=data["deadline_seconds"],
            scheduler_address=data["scheduler_address"],
            expected=Expected(**data["expected"]),
            notebook=Notebook(**notebook) if notebook else None,
            packages=tuple(data["packages"]),
            object_store=ObjectStore(**data["object_store"]) if data["object_store"] else None,
        )


def say(**content: object) -> None:
    """Print one line for the launcher."""
    print(MARK + json.dumps(content), flush=True)
