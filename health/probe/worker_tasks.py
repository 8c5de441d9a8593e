"""A task on every worker; it reports the worker's engine and the packages it cannot import."""

import re
import socket
import subprocess
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import UnprovenError
from .busy import ask, failure, wait
from .members import WorkerError, check_answers
from .tasks import RESULT_SECONDS, Client, submit
from .versions import requirement_name

TASK_SECONDS = 30  # a worker may still be busy with its own start
CONTAINER_MARK = Path("/.dockerenv")  # the engine creates it together with the container
BOOT = Path("/proc/sys/kernel/random/boot_id")
MOUNTS = Path("/proc/self/mountinfo")
# The device and the folder where the engine keeps its containers.
MOUNTED = re.compile(
    r"^\S+ \S+ (\S+ \S+)/containers/[0-9a-f]+/hostname /etc/hostname ", re.MULTILINE
)


def run_tasks(client: Client, workers: Sequence[str], packages: Sequence[str]) -> dict[str, str]:
    """Run a task on every worker; return worker to the engine that it runs on.

    Raises `UnprovenError` if a worker does not run it, or lacks a module of a package.
    """
    names = [requirement_name(package) for package in packages]
    futures = [submit(client, worker, describe, names) for worker in workers]
    wait(client, workers, futures, TASK_SECONDS)
    engines = {}
    for worker, future in zip(workers, futures, strict=True):
        if future.status != "finished":
            found = failure(client, worker, future, TASK_SECONDS)
            raise WorkerError(f"expected {worker} to run a task, found {found}")
        answer = future.result(RESULT_SECONDS)
        check_imports(worker, packages, answer["missing"], answer["error"])
        engines[worker] = answer["engine"]
    return engines


def check_busy_workers(client: Client, workers: Collection[str], packages: Sequence[str]) -> None:
    """Check what a worker can answer beside its tasks.

    Raises `UnprovenError` if a worker does not answer, or lacks a module of a package.
    """
    names = [requirement_name(package) for package in packages]
    answers = ask(client, workers, lambda _: missing_modules(names))
    check_answers(workers, answers)
    for worker, missing in answers.items():
        check_imports(worker, packages, missing)


def check_imports(
    worker: str, packages: Sequence[str], missing: Sequence[str], error: str = ""
) -> None:
    """Raise `UnprovenError` if a worker lacks modules, or had an error at their import."""
    if missing or error:
        found = error or f"no module {', '.join(missing)}"
        raise UnprovenError(f"expected {worker} to import {', '.join(packages)}, found {found}")


def describe(names: Sequence[str]) -> dict[str, Any]:
    """Return a worker's engine, and the modules that it cannot import."""
    missing = missing_modules(names)
    fresh = [module for name in names if installed_at_start(name) for module in modules(name)]
    error = import_error(fresh) if fresh and not missing else ""
    return {"engine": engine(), "missing": missing, "error": error}


def engine() -> str:
    """Return what only the containers of one engine have in common; without it the host name."""
    with suppress(OSError):
        if mounted := MOUNTED.search(MOUNTS.read_text()):
            return f"{BOOT.read_text().strip()} {mounted[1]}"
    return socket.gethostname()


def missing_modules(names: Sequence[str]) -> list[str]:
    """Return the modules of distributions that are not installed; it imports none of them."""
    return [module for name in names for module in modules(name) if not is_installed(module)]


def modules(name: str) -> list[str]:
    """Return the top-level modules of an installed distribution, `google.cloud.storage` style."""
    from importlib.metadata import files

    result = set()
    for path in files(name) or []:
        package = path.parts[:-1] if path.name == "__init__.py" else ()
        if path.suffix in (".py", ".so") and len(path.parts) == 1:
            package = (path.name.partition(".")[0],)
        if package and all(part.isidentifier() for part in package):
            result.add(".".join(package))
    top = min((module.count(".") for module in result), default=0)
    return sorted(module for module in result if module.count(".") == top)


def is_installed(module: str) -> bool:
    """Return whether a module is installed."""
    from importlib.util import find_spec

    try:
        return find_spec(module) is not None
    except ImportError:
        return False


def installed_at_start(name: str) -> bool:
    """Return whether the container installed a distribution at its start, after the image's build.

    Only such a distribution is imported here: the build of an image can test its own. An import of
    Prefect takes 2 s on half a CPU, a fifth of a whole deployment.
    """
    from importlib.metadata import files

    if not CONTAINER_MARK.exists():
        return False
    created = CONTAINER_MARK.stat().st_ctime
    installed = [path.locate() for path in files(name) or [] if path.name == "METADATA"]
    return any(Path(str(path)).stat().st_ctime > created for path in installed)


def import_error(names: Sequence[str]) -> str:
    """Return the error of importing the modules, empty without an error.

    A second interpreter imports them, so the worker's memory and modules stay as they are.
    """
    program = [sys.executable, "-c", f"import {', '.join(names)}"]
    done = subprocess.run(  # noqa: PLW1510
        program, capture_output=True, text=True, timeout=TASK_SECONDS
    )
    return done.stderr.strip().rpartition("\n")[2] if done.returncode else ""
