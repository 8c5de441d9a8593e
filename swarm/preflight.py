"""What a manager must be before anything is declared on its Swarm; it only reads.

Owns the questions to the manager itself and what is wrong with the answers: whether it is one, is
led, is new enough and has the right time, and whether its nodes have room (`capacity.py`). What
the program must know of the Swarm besides, images and networks, is `lookup.py`'s. Whatever is
wrong is told at once, each in one line with the command that cures it.
"""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import docker
from docker.errors import APIError

from config.problems import complaint
from config.settings import Settings
from swarm.capacity import demands, shortages
from swarm.nodes import Node, Task, hostname

OLDEST_API = "1.41"
OLDEST_ENGINE = (20, 10)  # the first to have that API
CLOCK_SECONDS = 30
LEADERLESS = re.compile(
    r"(?i)does not have a leader|no elected (?:primary|leader)|deadline exceeded"
)
# Only the first of these is a state that the manager's engine can be helped out of from outside.
CURES = {
    "locked": "docker swarm unlock",
    "inactive": "docker swarm init",
    "pending": "docker node ls, on a manager",
    "error": "docker info, there",
}


class UnfitManagerError(ValueError):
    """The manager cannot be asked anything more; the message is one complaint."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What a manager said; `clock` is by how many seconds its own is ahead of this machine's."""

    host: str
    api_version: str
    clock: float
    nodes: Sequence[Node]
    tasks: Sequence[Task]
    services: Mapping[str, str]  # id to name


def survey(engine: "docker.APIClient", host: str) -> Survey:
    """Ask the manager; raises `UnfitManagerError` when it is none or cannot answer as one."""
    asked = time.time()
    info: Mapping[str, Any] = engine.info()
    answered = time.time()
    if problem := not_a_manager(host, info):
        raise UnfitManagerError(problem)
    api: Any = engine  # of which the stubs leave most methods untyped
    try:
        services = {each["ID"]: str(each["Spec"]["Name"]) for each in api.services()}
        nodes, tasks = api.nodes(), api.tasks(filters={"desired-state": "running"})
    except APIError as error:
        raise UnfitManagerError(_silent(host, str(error.explanation or error))) from None
    return Survey(
        host=host,
        api_version=engine.api_version,
        clock=clock_difference(info.get("SystemTime") or "", asked, answered),
        nodes=nodes,
        tasks=tasks,
        services=services,
    )


def not_a_manager(host: str, info: Mapping[str, Any]) -> str | None:
    """Return what an engine is instead of a manager, by its `GET /info`."""
    swarm = info.get("Swarm") or {}
    state = swarm.get("LocalNodeState") or "inactive"
    if swarm.get("ControlAvailable"):
        return None
    if state == "active":
        managers = [each["Addr"].rpartition(":")[0] for each in swarm.get("RemoteManagers") or []]
        found = f"{host!r} is not a Swarm manager but a worker node"
        known = (
            f"a manager's engine, such as {managers[0]}'s" if managers else "a manager's engine"
        )
        cure = f"docker node promote {info.get('Name', '<node>')}, on a manager"
        return complaint("dockerHost", found, known, cure)
    why = f": {swarm['Error']}" if swarm.get("Error") else ""
    found = f"{host!r} is not a Swarm manager, its Swarm is {state}{why}"
    return complaint("dockerHost", found, "a manager's engine", CURES.get(state, "docker info"))


def _silent(host: str, said: str) -> str:
    if LEADERLESS.search(said):
        found = f"the Swarm at {host!r} has no leader: more than half of its managers are away"
        cure = "sudo systemctl start docker, on the others"
        return complaint("dockerHost", found, "a Swarm with a quorum of managers", cure)
    found = f"{host!r} does not answer for its Swarm ({said})"
    return complaint("dockerHost", found, "a manager that works", "docker node ls, there")


def clock_difference(said: str, asked: float, answered: float) -> float:
    """Return by how many seconds a manager's clock is ahead, 0 where the way there may explain it.

    `said` is as in `GET /info`, with nanoseconds; empty where an engine does not tell.
    """
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)", said)
    if match is None:
        return 0
    there = datetime.fromisoformat(match[1] + match[2].replace("Z", "+00:00"))
    seconds = there.astimezone(UTC).timestamp()
    return min(seconds - asked, 0) or max(seconds - answered, 0)


def problems(found: Survey, settings: Settings) -> list[str]:
    """Return everything that does not fit."""
    wanted = demands(settings)
    ours = {demand.service for demand in wanted}
    others = [task for task in found.tasks if found.services.get(task["ServiceID"]) not in ours]
    return [
        *_old(found),
        *_wrong_time(found),
        *shortages(wanted, settings.platform, found.nodes, others),
    ]


def _old(found: Survey) -> Iterator[str]:
    needed = ".".join(map(str, OLDEST_ENGINE))
    cure = "curl -fsSL https://get.docker.com | sh, there"
    if _numbers(found.api_version) < _numbers(OLDEST_API):
        said = f"the engine at {found.host!r} speaks API {found.api_version}"
        yield complaint("dockerHost", said, f"API {OLDEST_API}, Docker {needed}, or newer", cure)
    for node in found.nodes:
        version = str((node["Description"].get("Engine") or {}).get("EngineVersion", ""))
        if version and _numbers(version) < OLDEST_ENGINE:
            said = f"the node {hostname(node)} runs Docker {version}"
            yield complaint("dockerHost", said, f"{needed} or newer", cure)


def _numbers(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version, as far as it has numbers."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _wrong_time(found: Survey) -> Iterator[str]:
    if abs(found.clock) <= CLOCK_SECONDS:
        return
    where = "ahead of" if found.clock > 0 else "behind"
    said = f"the manager's clock is {abs(found.clock):.0f} s {where} this machine's"
    allowed = f"{CLOCK_SECONDS} s, since certificates and tokens have their times"
    yield complaint("dockerHost", said, allowed, "sudo timedatectl set-ntp true, on both")
