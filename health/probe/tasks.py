"""Runs a function on one worker that cannot import it."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

# Types of distributed, which is imported late and only partly typed.
Client = Any
Future = Any

RESULT_SECONDS = 5  # to fetch a result of a few bytes


def submit(client: Client, worker: str, function: Any, *args: object) -> Future:  # noqa: ANN401
    """Run `function` on this worker only."""
    portable = by_value(function)
    return client.submit(portable, *args, workers=[worker], allow_other_workers=False, pure=False)


def by_value(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the same function, pickled with its code instead of its name."""
    import cloudpickle  # type: ignore[import-untyped]

    # distributed uses cloudpickle only for what pickle refuses: a local function.
    def call(*args: object) -> object:
        return function(*args)

    cloudpickle.register_pickle_by_value(sys.modules[__name__.rpartition(".")[0]])
    call.__name__ = function.__name__  # the key of the task begins with it
    return call


def wait(futures: Sequence[Future], seconds: float) -> None:
    """Wait until all futures are done or failed, at most `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not all(future.done() for future in futures):
        time.sleep(0.01)
