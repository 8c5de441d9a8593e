"""A real array and a real frame, sent from a client to every worker and back."""

from collections.abc import Iterator, Sequence
from typing import Any

from . import UnprovenError
from .members import moved_or
from .tasks import RESULT_SECONDS, Client, submit, wait

EXCHANGE_SECONDS = 60  # pandas is imported by every worker, each at half a CPU


def exchange(client: Client, workers: Sequence[str]) -> None:
    """Send what the client can make to every worker, and compare what comes back.

    Raises `UnprovenError` for a worker that cannot read it, or returns something else.
    """
    for kind, sample, same in samples():
        sent = {worker: submit(client, worker, echo, sample) for worker in workers}
        wait(list(sent.values()), EXCHANGE_SECONDS)
        for worker, future in sent.items():
            if future.status != "finished":
                raise moved_or(client, workers, refused(kind, worker, future))
            if not same(future.result(RESULT_SECONDS)):
                raise UnprovenError(f"{worker}: {kind} came back changed")


def samples() -> Iterator[tuple[str, Any, Any]]:
    """Yield what the client's image can make: its name, an example, and a comparison with it."""
    try:
        import numpy as np
    except ImportError:
        return
    array = np.arange(1000.0).reshape(10, 100)
    yield f"an array of numpy {np.__version__}", array, lambda back: np.array_equal(array, back)
    try:
        import pandas as pd
    except ImportError:
        return
    frame = pd.DataFrame({"number": range(100), "text": [f"row {each}" for each in range(100)]})
    yield f"a frame of pandas {pd.__version__}", frame, frame.equals


def echo(sample: object) -> object:
    """Return the same, after the worker has read it and so imported what it is made of."""
    return sample


def refused(kind: str, worker: str, future: Any) -> str:  # noqa: ANN401
    """Return the problem of a worker that did not send a sample back."""
    if future.status == "error":
        return f"{worker} cannot read {kind}: {future.exception(RESULT_SECONDS)!r}"
    return f"{worker} did not send {kind} back within {EXCHANGE_SECONDS} s"
