"""Runs a function on one worker that cannot import it."""

import sys
from collections.abc import Callable
from typing import Any

# Types of distributed, which is imported late and only partly typed.
Client = Any
Future = Any

RESULT_SECONDS = 30  # to fetch a result of a few bytes, by a scheduler that may be busy
# So that the proof's tasks are next on a thread. It also marks them, so no user may choose it.
PRIORITY = 10**9
BUSY_SECONDS = 10  # a task of a user that runs longer is not waited for


def submit(client: Client, worker: str, function: Any, *args: object) -> Future:  # noqa: ANN401
    """Run `function` on this worker only."""
    portable = by_value(function)
    only = {"workers": [worker], "allow_other_workers": False}
    return client.submit(portable, *args, **only, priority=PRIORITY, pure=False)


def by_value(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the same function, pickled with its code instead of its name."""
    import cloudpickle  # type: ignore[import-untyped]

    # distributed uses cloudpickle only for what pickle refuses: a local function.
    def call(*args: object) -> object:
        return function(*args)

    cloudpickle.register_pickle_by_value(sys.modules[__name__.rpartition(".")[0]])
    call.__name__ = function.__name__  # the key of the task begins with it
    return call
