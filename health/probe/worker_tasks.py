"""A task on every worker, which tells where it runs and what of the packages it cannot import."""

import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import UnprovenError
from .members import moved_or
from .tasks import RESULT_SECONDS, Client, Future, submit, wait
from .versions import requirement_name

VISIT_SECONDS = 30  # a task on every worker, each perhaps still busy with its own start
CONTAINER_MARK = Path("/.dockerenv")  # the engine makes it when it creates a container


def visit(client: Client, workers: Sequence[str], packages: Sequence[str]) -> dict[str, str]:
    """Run a task on every worker, itself and no other; return worker to its host's name.

    Raises `UnprovenError` when one does not run it, or lacks a module of a package.
    """
    names = [requirement_name(each) for each in packages]
    visits = [submit(client, worker, introduce, names) for worker in workers]
    wait(visits, VISIT_SECONDS)
    hosts = {}
    for worker, future in zip(workers, visits, strict=True):
        if future.status != "finished":
            raise moved_or(client, workers, unvisited(worker, future))
        answer = future.result(RESULT_SECONDS)
        if answer["lacking"] or answer["error"]:
            what = answer["error"] or f"no module {', '.join(answer['lacking'])}"
            raise UnprovenError(f"expected {worker} to import {', '.join(packages)}, found {what}")
        hosts[worker] = answer["host"]
    return hosts


def introduce(names: Sequence[str]) -> dict[str, Any]:
    """Return a worker's address, its host's name, and what of the packages it cannot import."""
    from distributed import get_worker

    wanted = {name: modules(name) for name in names}
    lacking = [each for name in names for each in wanted[name] if not findable(each)]
    fresh = [each for name in names if installed_here(name) for each in wanted[name]]
    error = import_error(fresh) if fresh and not lacking else ""
    host = socket.gethostname()
    return {"address": get_worker().address, "host": host, "lacking": lacking, "error": error}


def unvisited(worker: str, future: Future) -> str:
    """Return the complaint about a task that a worker did not run."""
    if future.status == "error":
        return f"expected {worker} to run a task, found {future.exception(RESULT_SECONDS)!r}"
    return f"expected {worker} to run a task, found nothing after {VISIT_SECONDS} s"


def modules(name: str) -> list[str]:
    """Return the top-level modules of an installed distribution, `google.cloud.storage` style."""
    from importlib.metadata import files

    found = set()
    for path in files(name) or []:
        package = path.parts[:-1] if path.name == "__init__.py" else ()
        if path.suffix in (".py", ".so") and len(path.parts) == 1:
            package = (path.name.partition(".")[0],)
        if package and all(part.isidentifier() for part in package):
            found.add(".".join(package))
    top = min((each.count(".") for each in found), default=0)
    return sorted(each for each in found if each.count(".") == top)


def findable(module: str) -> bool:
    """Tell whether a module is there."""
    from importlib.util import find_spec

    try:
        return find_spec(module) is not None
    except ImportError:
        return False


def installed_here(name: str) -> bool:
    """Tell whether a distribution was installed by this container, not by its image's build.

    Only then is it imported here. An import of Prefect takes 2 s on half a CPU, a fifth of a whole
    deployment; it belongs into the build of an image, whose digest then stands for it. Containers
    that install packages when they start differ each time, and take far longer anyway.
    """
    from importlib.metadata import files

    if not CONTAINER_MARK.exists():
        return False
    created = CONTAINER_MARK.stat().st_ctime
    installed = [each.locate() for each in files(name) or [] if each.name == "METADATA"]
    return any(Path(str(each)).stat().st_ctime > created for each in installed)


def import_error(names: Sequence[str]) -> str:
    """Return how importing the modules fails, empty if it does not.

    By an interpreter of its own, which leaves the worker's memory and modules as they are.
    """
    program = [sys.executable, "-c", f"import {', '.join(names)}"]
    done = subprocess.run(  # noqa: PLW1510
        program, capture_output=True, text=True, timeout=VISIT_SECONDS
    )
    return done.stderr.strip().rpartition("\n")[2] if done.returncode else ""
