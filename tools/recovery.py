"""Removes what a killed `up` or `destroy` has left: the stack's lock and objects on the Swarm.

Owns the decision whether a lock is stale, and the order of the repair: the unfinished creations
stay in the state until their objects are gone, so an interrupted repair can be repeated.
"""

import json
import os
import re
import socket
from contextlib import suppress
from pathlib import Path

from swarm import leftovers
from swarm.leftovers import State
from swarm.manager import MANAGER_ERRORS, Manager
from swarm.progress import Progress
from tools.runners import Finished, PulumiRunner, say

# In the CLI's error. Only a lock in a file of this machine can be judged from here.
LOCKS = re.compile(r"the stack is currently locked by (\d+) lock")
LOCK = re.compile(r"^\s*file://\S+: created by \S*?@(\S+) \(pid (\d+)\)", re.MULTILINE)


class RecoveryError(Exception):
    """The stack is locked by a live deployment, or the Swarm cannot be repaired."""


def recover(runner: PulumiRunner) -> None:
    """Remove what a killed deployment has left; raises `RecoveryError`."""
    state = _state(runner)
    if not leftovers.unfinished_creations(state):
        return
    say("An earlier deployment of this stack was killed: removing what it has left")
    tried = _refresh(runner, state, "--skip-pending-creates")
    if not _removed_lock(runner, tried):
        _check(tried)
    for host in sorted(leftovers.hosts(state)):
        _clean(host, state)
    _check(_refresh(runner, state, "--clear-pending-creates"))


def unlock(runner: PulumiRunner) -> bool:
    """Remove a stale lock and return whether there was one."""
    return _removed_lock(runner, _refresh(runner, _state(runner), "--skip-pending-creates"))


def _removed_lock(runner: PulumiRunner, tried: Finished) -> bool:
    """Remove the lock that made a command fail, if it is stale; return whether it was."""
    if not is_stale(tried.stderr):
        return False
    say("The process that locked this stack was killed: removing its lock")
    _check(runner.ask("cancel", "--yes"))
    return True


def is_stale(message: str) -> bool:
    """Return whether the CLI reports locks, and every holder was a process here and has ended."""
    locks = LOCKS.search(message)
    holders = LOCK.findall(message)
    return (
        locks is not None
        and int(locks[1]) == len(holders)
        and all(host == socket.gethostname() and _has_ended(int(pid)) for host, pid in holders)
    )


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


def _clean(host: str, state: State) -> None:
    try:
        manager = Manager(host)
        found = leftovers.find(manager, state)
        leftovers.remove(manager, found, Progress())
    except MANAGER_ERRORS as error:
        raise RecoveryError(f"the Swarm manager at {host}: {error}") from None
    for foreign in found:
        if not foreign.is_own:
            say(
                f"{foreign.name}: the {foreign.kind} is not this stack's, so it stays. "
                f"Fix: destroy its stack, or docker {foreign.kind} rm {foreign.name}"
            )


def _state(runner: PulumiRunner) -> State:
    state: State = json.loads(_check(runner.ask("stack", "export")).stdout)["deployment"]
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
