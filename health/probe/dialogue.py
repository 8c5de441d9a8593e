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
class Prefect:
    """The API of a Prefect server; one that is `managed` starts together with the cluster.

    `variables_file` is a JSON object of environment variables that work with it needs, if any.
    """

    api_url: str
    managed: bool
    variables_file: str | None = None


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to prove, and the seconds there are for it."""

    deadline_seconds: float
    scheduler_address: str
    expected: Expected
    notebook: Notebook | None
    packages: tuple[str, ...]
    prefect: Prefect | None = None

    @classmethod
    def parse(cls, text: str) -> "Order":
        """Read an order from JSON with the fields' names as keys."""
        data = json.loads(text)
        notebook, prefect = data["notebook"], data.get("prefect")
        return cls(
            deadline_seconds=data["deadline_seconds"],
            scheduler_address=data["scheduler_address"],
            expected=Expected(**data["expected"]),
            notebook=Notebook(**notebook) if notebook else None,
            packages=tuple(data["packages"]),
            prefect=Prefect(**prefect) if prefect else None,
        )


def say(**content: object) -> None:
    """Print one line for the launcher."""
    print(MARK + json.dumps(content), flush=True)
