"""The launcher: runs the probe in the Swarm, watches it and reports the result.

Reads a request (`request.py`) on standard input; prints progress on standard error and the proof,
one JSON object, on standard output. On failure it exits with 1 after a message with the expected
and the actual state, and the error of each missing task. `DOCKER_HOST` is the manager.

The launcher may start before the services are created or updated. It waits for their declared
hashes, so that the probe starts beside them.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from health import job
from health.reaper import reaper
from health.request import Request
from health.timing import TIMING, Deadline, Timing
from health.watch import Watch
from swarm import UnfitError
from swarm.manager import MANAGER_ERRORS, PROBE_LABELS, Manager, manager_address
from swarm.progress import Progress

INTERRUPTED = 130
ENGINE_SECONDS = 1.0  # between two checks whether the engine still runs


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM has stopped the launcher."""


def main(timing: Timing = TIMING) -> int:
    """Run the request on standard input and return the exit code."""
    return carry_out(lambda text, progress: run(Request.parse(text), progress, timing))


def carry_out(program: Callable[[str, Progress], dict[str, Any]]) -> int:
    """Run a program with the request on standard input; print its result, return the exit code."""
    progress = Progress()
    try:
        with _stoppable():
            result = program(sys.stdin.read(), progress)
    except Interrupted:
        print("interrupted; the probe's service is removed", file=sys.stderr)
        return INTERRUPTED
    except (UnfitError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    except MANAGER_ERRORS as error:
        print(_manager_error(error), file=sys.stderr)
        return 1
    print(json.dumps({**result, "seconds": round(progress.elapsed, 1)}))
    return 0


def _manager_error(error: Exception) -> str:
    return f"the Swarm manager at {manager_address()}: {error}"


@contextmanager
def _stoppable() -> Iterator[None]:
    """Raise `Interrupted` inside the block at the first SIGINT or SIGTERM, and ignore others.

    Raise it also when the engine is killed: nothing would read the proof, and a rollback would
    disturb the next deployment.
    """
    engine = os.getppid()

    def stop(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        raise Interrupted

    def stop_without_engine(*_: object) -> None:
        if os.getppid() != engine:
            stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    signal.signal(signal.SIGALRM, stop_without_engine)
    signal.setitimer(signal.ITIMER_REAL, ENGINE_SECONDS, ENGINE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def run(request: Request, progress: Progress, timing: Timing = TIMING) -> dict[str, Any]:
    """Prove the cluster and return the stack's output; raises `UnfitError` with the whole report.

    A manager that stops answering also fails the proof, and the rollback begins as soon as a
    manager answers. The probe's service is removed before this returns or raises, or soon after
    by the reaper.
    """
    name = job.new_name(request.cluster)
    deadline = Deadline.after(request.probe.deadline_seconds)
    with reaper(name, deadline.limit, timing) as dismiss:
        manager = Manager()
        probes = manager.labelled(PROBE_LABELS)
        for leftover in job.leftovers(probes, request.cluster, time.time()):
            manager.remove(leftover)
        probe = job.ProbeService(manager, name, timing)
        watch = Watch(manager, request, probe, progress, deadline, timing)
        try:
            return watch.result()
        except (UnfitError, *MANAGER_ERRORS) as error:
            reason = str(error) if isinstance(error, UnfitError) else _manager_error(error)
            # The report first: during a rollback Swarm deletes the failed tasks.
            report = watch.report(reason)
            raise UnfitError("\n\n".join(filter(None, [report, watch.roll_back()]))) from None
        finally:
            with suppress(*MANAGER_ERRORS):
                if probe.remove():
                    dismiss()
