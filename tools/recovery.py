"""Removes what a killed `up` or `destroy` has left: the stack's lock and objects on the Swarm.

What it has deleted and not replaced is marked in the state, so that the next `up` only creates it.

Owns the decision whether a lock is stale, and the order of the repair: the unfinished creations
stay in the state until their objects are gone, so an interrupted repair can be repeated.
"""

import json
import os
import re
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from urllib.parse import unquote, urlsplit

from swarm import leftovers
from swarm.leftovers import State
from swarm.manager import MANAGER_ERRORS, Manager
from swarm.progress import Progress
from tools.runners import Finished, PulumiRunner, say

# In the CLI's error. Only a lock in a file of this machine can be judged from here.
LOCKS = re.compile(r"the stack is currently locked by (\d+) lock")
LOCK = re.compile(r"^\s*(file://\S+): created by .*?@(\S+) \(pid (\d+)\)", re.MULTILINE)


class RecoveryError(Exception):
    """The stack is locked by a live deployment, or the Swarm cannot be repaired."""


def recover(runner: PulumiRunner, *, ends: bool = False) -> None:
    """Remove what a killed deployment has left; raises `RecoveryError`.

    With `ends` the stack is about to be destroyed: end the tasks if the state lacks the shutdown.
    """
    state = _state(runner)
    ending = leftovers.services_without_shutdown(state) if ends else []
    replaced = leftovers.unfinished_replacements(state)
    if not (ending or replaced or leftovers.unfinished_creations(state)):
        return
    tried = _refresh(runner, state, "--skip-pending-creates")
    if not _removed_lock(tried.stderr):
        _check(tried)
    # Until then another deployment may have finished its creations.
    state = _state(runner)
    for host in sorted(leftovers.hosts(state)):
        _clean(host, state, ending)
    if leftovers.unfinished_programs(state):
        for inputs in leftovers.unfinished_programs(_state(runner, "--show-secrets")):
            _undo(inputs, runner.project)
    _check(_refresh(runner, state, "--clear-pending-creates"))
    if replaced:
        _forget_replacements(runner)


def unlock(runner: PulumiRunner) -> bool:
    """Remove a stale lock and return whether there was one."""
    return _removed_lock(_refresh(runner, _state(runner), "--skip-pending-creates").stderr)


def _removed_lock(error: str) -> bool:
    """Remove the locks that made a command fail, if all are stale; return whether they were."""
    locks = stale_locks(error)
    for lock in locks:
        say("The process that locked this stack was killed: removing its lock")
        # Not by `pulumi cancel`: that would also remove a lock that was taken since.
        lock.unlink(missing_ok=True)
    return bool(locks)


def stale_locks(error: str) -> list[Path]:
    """Return the files of the locks that the CLI reports, none if a holder may still run."""
    count, locks = LOCKS.search(error), LOCK.findall(error)
    if count is None or int(count[1]) != len(locks):
        return []
    if not all(host == socket.gethostname() and _has_ended(int(pid)) for _, host, pid in locks):
        return []
    return [Path(unquote(urlsplit(url).path)) for url, _, _ in locks]


def _has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    # Some containers have no process that collects a killed child.
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return False


def _clean(host: str, state: State, ending: Sequence[str]) -> None:
    try:
        manager = Manager(host)
        found = leftovers.find(manager, state)
        leftovers.remove(manager, found, ending, Progress())
    except MANAGER_ERRORS as error:
        raise RecoveryError(f"the Swarm manager at {host}: {error}") from None
    for foreign in found:
        if not foreign.is_own:
            say(
                f"{foreign.name}: the {foreign.kind} is not this stack's, so it stays. "
                f"Fix: destroy its stack, or docker {foreign.kind} rm {foreign.name}"
            )


def _undo(inputs: Mapping[str, Any], folder: Path) -> None:
    """Run a program with its arguments for a deletion."""
    request = inputs.get("stdin", "")
    done = subprocess.run(
        ["sh", "-c", inputs["delete"]],
        input=request if isinstance(request, str) else json.loads(request["plaintext"]),
        cwd=folder,
        env={**os.environ, **inputs.get("environment", {})},
        capture_output=True,
        text=True,
        check=False,
    )
    say(_check(done).stdout.strip())


def _forget_replacements(runner: PulumiRunner) -> None:
    """Have the next refresh find out that the deleted objects are gone.

    The engine refreshes no resource that waits for its replacement.
    """
    exported = json.loads(_check(runner.ask("stack", "export")).stdout)
    for resource in leftovers.unfinished_replacements(exported["deployment"]):
        del resource["pendingReplacement"]
    with NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(exported, file)
        file.flush()
        _check(runner.ask("stack", "import", "--file", file.name))


def _state(runner: PulumiRunner, *options: str) -> State:
    done = _check(runner.ask("stack", "export", *options))
    state: State = json.loads(done.stdout)["deployment"]
    return state


def _refresh(runner: PulumiRunner, state: State, option: str) -> Finished:
    """Refresh the stack's root alone, which reads nothing from the Swarm but needs the lock."""
    resources = leftovers.resources(state)
    target = ["--target", resources[0]["urn"]] if resources else []
    return runner.run("refresh", "--non-interactive", option, *target, capture=True)


def _check(done: Finished) -> Finished:
    if done.returncode:
        raise RecoveryError((done.stderr or done.stdout).strip())
    return done
