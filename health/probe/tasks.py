"""How one worker, and no other, is made to call a function that it cannot import."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

# Those of distributed, which is imported late and typed in part only.
Client = Any
Future = Any

RESULT_SECONDS = 5  # to fetch a result of a few bytes


def submit(client: Client, worker: str, function: Any, *args: object) -> Future:  # noqa: ANN401
    """Have one worker, and no other, call `function`."""
    whole = by_value(function)
    return client.submit(whole, *args, workers=[worker], allow_other_workers=False, pure=False)


def by_value(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that does the same and travels with its code, instead of as its name."""
    import cloudpickle  # type: ignore[import-untyped]

    # distributed asks cloudpickle, and so its register, only for what pickle refuses by itself: a
    # local function.
    def call(*args: object) -> object:
        return function(*args)

    cloudpickle.register_pickle_by_value(sys.modules[__name__.rpartition(".")[0]])
    call.__name__ = function.__name__  # by which tasks are called
    return call


def wait(futures: Sequence[Future], seconds: float) -> None:
    """Return when all futures are done, well or not, or the seconds are over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not all(each.done() for each in futures):
        time.sleep(0.01)
