"""An array and a frame, sent from a client to every worker and back."""

from collections.abc import Iterator, Sequence
from typing import Any

from . import UnprovenError
from .busy import failure, wait
from .members import WorkerError
from .tasks import RESULT_SECONDS, Client, submit

EXCHANGE_SECONDS = 60  # every worker imports pandas, with half a CPU


def exchange(client: Client, workers: Sequence[str]) -> None:
    """Send the samples to every worker, and compare what comes back.

    Raises `UnprovenError` for a worker that cannot read a sample, or returns another one.
    """
    for kind, sample, same in samples():
        sent = {worker: submit(client, worker, echo, sample) for worker in workers}
        wait(client, workers, list(sent.values()), EXCHANGE_SECONDS)
        for worker, future in sent.items():
            if future.status != "finished":
                found = failure(client, worker, future, EXCHANGE_SECONDS)
                raise WorkerError(f"expected {worker} to send {kind} back, found {found}")
            if not same(future.result(RESULT_SECONDS)):
                raise UnprovenError(f"{worker}: {kind} came back changed")


def samples() -> Iterator[tuple[str, Any, Any]]:
    """Yield name, example and comparison, for the libraries in the client's image."""
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
    frame = pd.DataFrame({"number": range(100), "text": [f"row {row}" for row in range(100)]})
    yield f"a frame of pandas {pd.__version__}", frame, frame.equals


def echo(sample: object) -> object:
    """Return the sample; to read it the worker imports its library."""
    return sample
