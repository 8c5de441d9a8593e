"""The launcher: runs the probe in the Swarm, watches over it and reports what came of it.

Reads a request (`request.py`) on standard input; prints progress on standard error and the proof,
one JSON object, on standard output. On failure it exits with 1 after a message that says what was
expected, what was found and what is wrong with each missing task. `DOCKER_HOST` is the manager.

The services may still be on their way when it starts: it waits for their declared revisions
itself, so that the probe's start overlaps with theirs.
"""

import json
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from health import job
from health.reaper import guarded
from health.request import Request
from health.watch import Watch
from swarm import UnfitError
from swarm.manager import MANAGER_ERRORS, PROBE_LABELS, Manager, manager_address
from swarm.progress import Progress

INTERRUPTED = 130


class Interrupted(KeyboardInterrupt):
    """The launcher was told to stop."""


def main() -> int:
    """Carry out the request on standard input and return the exit code."""
    progress = Progress()
    try:
        with _stoppable():
            result = run(Request.parse(sys.stdin.read()), progress)
    except Interrupted:
        print("interrupted; the probe's service is removed", file=sys.stderr)
        return INTERRUPTED
    except (UnfitError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    except MANAGER_ERRORS as error:
        print(_told(error), file=sys.stderr)
        return 1
    print(json.dumps({**result, "seconds": round(progress.elapsed, 1)}))
    return 0


def _told(error: Exception) -> str:
    return f"the Swarm manager at {manager_address()}: {error}"


@contextmanager
def _stoppable() -> Iterator[None]:
    """Raise `Interrupted` inside the block at the first SIGINT or SIGTERM, and ignore others."""

    def stop(*_: object) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, stop)
    yield


def run(request: Request, progress: Progress) -> dict[str, Any]:
    """Prove the cluster and return the stack's output; raises `UnfitError` with the whole report.

    A manager that cannot be asked any more is a failed proof as well, once there was a first look:
    what has changed goes back as soon as one answers. The probe's service is gone when this
    returns or raises, and soon after if it cannot do either.
    """
    name = f"{job.PREFIX}{secrets.token_hex(4)}"
    with guarded(name, request.deadline_seconds) as dismiss:
        manager = Manager()
        for left in job.leftovers(manager.labelled(PROBE_LABELS), time.time()):
            manager.remove(left)
        watch = Watch(manager, request, name, progress)
        try:
            return watch.result()
        except (UnfitError, *MANAGER_ERRORS) as reason:
            # The report first: on the way back the Swarm forgets the tasks that failed.
            found = watch.report(str(reason) if isinstance(reason, UnfitError) else _told(reason))
            raise UnfitError("\n\n".join(filter(None, [found, watch.retreat()]))) from None
        finally:
            with suppress(*MANAGER_ERRORS):
                # Not found although begun: the request to create it may still be under way.
                if not watch.begun or manager.remove(name):
                    dismiss()
