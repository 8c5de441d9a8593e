"""What a manager and its nodes must be before anything is declared; it only reads.

Owns the questions to the manager and the judgement of its answers: it manages a Swarm, the Swarm
has a leader, its engines are new enough, its clock is right, its nodes have room (`capacity.py`)
and free ports (`clusters.py`), and the cluster's network fits (`networks.py`). `site.py` looks up
images and networks.
"""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import docker
from docker.errors import APIError

from config.names import DEFAULT_CLUSTER, network_name, service_name
from config.problems import Problem, ProblemError
from config.settings import Settings
from config.workloads import ResourceLimit, Workload, workers, workloads
from swarm import networks
from swarm.capacity import Room, shortages, update_shortages
from swarm.clusters import taken_ports
from swarm.images import Pinned
from swarm.networks import Networks
from swarm.nodes import Node, Task, hostname, platform_constraints, resources
from swarm.snapshot import Service, epoch_seconds, replicas

OLDEST_API = "1.41"
OLDEST_ENGINE = (20, 10)  # the first engine with that API
CLOCK_SECONDS = 30
ON_NETWORK = ("scheduler", "worker", "notebook", "prefect")  # roles
LEADERLESS = re.compile(
    r"(?i)does not have a leader|no elected (?:primary|leader)|deadline exceeded"
)
# By the state of the engine's Swarm.
FIXES = {
    "locked": "docker swarm unlock",
    "inactive": "docker swarm init",
    "pending": "docker node ls, on a manager",
    "error": "docker info, on that host",
}


@dataclass(frozen=True, kw_only=True)
class Survey:
    """A manager's answers; `clock` is how many seconds its clock is ahead of this machine's."""

    host: str
    api_version: str
    clock: float
    nodes: Sequence[Node]
    tasks: Sequence[Task]
    networks: Networks = field(default_factory=Networks)

    @property
    def services(self) -> Sequence[Service]:
        """All services of the Swarm."""
        return self.networks.services


def survey(engine: "docker.APIClient", host: str, cluster: str = DEFAULT_CLUSTER) -> Survey:
    """Ask the manager; raises `ProblemError` when it is not a manager or cannot answer as one."""
    asked = time.time()
    info: Mapping[str, Any] = engine.info()
    answered = time.time()
    if problem := not_a_manager(host, info):
        raise ProblemError(problem)
    api: Any = engine  # the stubs leave most of its methods untyped
    try:
        services, existing = api.services(), api.networks()
        nodes, tasks = api.nodes(), api.tasks(filters={"desired-state": "running"})
    except APIError as error:
        raise ProblemError(_no_answer(host, str(error.explanation or error))) from None
    return Survey(
        host=host,
        api_version=engine.api_version,
        clock=clock_difference(info.get("SystemTime") or "", asked, answered),
        nodes=nodes,
        tasks=tasks,
        networks=Networks.of(network_name(cluster), info, existing, services, nodes),
    )


def not_a_manager(host: str, info: Mapping[str, Any]) -> Problem | None:
    """Return the problem of an engine that is not a manager, by its `GET /info`."""
    swarm = info.get("Swarm") or {}
    state = swarm.get("LocalNodeState") or "inactive"
    if swarm.get("ControlAvailable"):
        return None
    if state == "active":
        managers = [peer["Addr"].rpartition(":")[0] for peer in swarm.get("RemoteManagers") or []]
        such_as = f", such as {managers[0]}'s" if managers else ""
        return Problem(
            key="dockerHost",
            found=f"{host!r} is not a Swarm manager but a worker node",
            expected=f"a manager's engine{such_as}",
            fix=f"docker node promote {info.get('Name', '<node>')}, on a manager",
        )
    reason = f": {swarm['Error']}" if swarm.get("Error") else ""
    return Problem(
        key="dockerHost",
        found=f"{host!r} is not a Swarm manager; its Swarm is {state}{reason}",
        expected="a manager's engine",
        fix=FIXES.get(state, "docker info"),
    )


def _no_answer(host: str, message: str) -> Problem:
    if LEADERLESS.search(message):
        return Problem(
            key="dockerHost",
            found=f"the Swarm at {host!r} has no leader; too few of its managers are up",
            expected="a Swarm with a quorum of managers",
            fix="sudo systemctl start docker, on the other managers",
        )
    return Problem(
        key="dockerHost",
        found=f"{host!r} does not answer for its Swarm ({message})",
        expected="a manager that works",
        fix="docker node ls, on that host",
    )


def clock_difference(manager_time: str, asked: float, answered: float) -> float:
    """Return by how many seconds a manager's clock is ahead, 0 if the delay may explain it.

    `manager_time` is as in `GET /info`, or empty.
    """
    try:
        seconds = epoch_seconds(manager_time)
    except ValueError:
        return 0
    return min(seconds - asked, 0) or max(seconds - answered, 0)


def problems(
    manager: Survey, settings: Settings, waiting: Sequence[Problem] = ()
) -> list[Problem]:
    """Return every problem of the manager and its nodes but those of `waiting_workers`."""
    own = [service_name(settings.cluster.name, role) for role in ON_NETWORK]
    return [
        *_check_versions(manager),
        *_check_clock(manager),
        *networks.check(manager.networks, settings.network, own),
        *(problem for problem in _shortages(manager, settings) if problem not in waiting),
        *filter(None, [taken_ports(manager.services, manager.tasks, manager.nodes, settings)]),
    ]


def waiting_workers(manager: Survey, settings: Settings, image: Pinned | None) -> list[Problem]:
    """Return the shortage of deployed workers that wait for a node to come back.

    A deployment that leaves the workers as they are can do without them, if some run. `image` is
    the workers'.
    """
    service = deployed_workers(manager, settings)
    if service is None or image is None:
        return []
    rules = platform_constraints(settings.cluster.platforms, image.platforms)
    if not _is_deployed(service, workers(settings), image.reference, rules):
        return []
    if not any(t["ServiceID"] == service["ID"] and t.get("NodeID") for t in manager.tasks):
        return []
    back = replace(manager, nodes=[_as_if_back(node) for node in manager.nodes])
    lasting = {problem.key for problem in _shortages(back, settings)}
    return [
        problem
        for problem in _shortages(manager, settings)
        if problem.key == "workers" and problem.key not in lasting
    ]


def updates_without_room(manager: Survey, settings: Settings) -> list[Problem]:
    """Return the problem of a Swarm that has room for the stack, but not for an update of it.

    A deployment can do without that room, if it does not change these services.
    """
    return update_shortages(workloads(settings), _unreserved(manager, settings))


def deployed_workers(manager: Survey, settings: Settings) -> Service | None:
    """Return the workers' service, if the Swarm has it."""
    name = workers(settings).name
    return next((s for s in manager.services if s["Spec"]["Name"] == name), None)


def _is_deployed(service: Service, workload: Workload, image: str, rules: Sequence[str]) -> bool:
    template = service["Spec"]["TaskTemplate"]
    placement, sizes = template.get("Placement") or {}, template.get("Resources") or {}
    return (
        replicas(service) == workload.replicas
        and template["ContainerSpec"]["Image"] == image
        and {*(placement.get("Constraints") or ())} == {*workload.constraints, *rules}
        and placement.get("MaxReplicas", 0) == workload.per_node
        and resources(sizes.get("Limits")) == _amount(workload.limit)
        and resources(sizes.get("Reservations")) == _amount(workload.reservation)
    )


def _amount(limit: ResourceLimit) -> tuple[int, int]:
    return limit.nano_cpus, limit.memory_bytes


def _as_if_back(node: Node) -> Node:
    return {
        **node,
        "Spec": {**node["Spec"], "Availability": "active"},
        "Status": {**node["Status"], "State": "ready"},
    }


def _shortages(manager: Survey, settings: Settings) -> list[Problem]:
    return shortages(workloads(settings), _unreserved(manager, settings))


def _unreserved(manager: Survey, settings: Settings) -> Room:
    names = {workload.name for workload in workloads(settings)}
    own = {service["ID"] for service in manager.services if service["Spec"]["Name"] in names}
    others = [task for task in manager.tasks if task["ServiceID"] not in own]
    return Room.of(settings.cluster.platforms, manager.nodes, others)


def _check_versions(manager: Survey) -> Iterator[Problem]:
    oldest = ".".join(map(str, OLDEST_ENGINE))
    if _numbers(manager.api_version) < _numbers(OLDEST_API):
        yield Problem(
            key="dockerHost",
            found=f"the engine at {manager.host!r} speaks API {manager.api_version}",
            expected=f"API {OLDEST_API}, Docker {oldest}, or newer",
            fix="curl -fsSL https://get.docker.com | sh, on that host",
        )
    for node in manager.nodes:
        version = str((node["Description"].get("Engine") or {}).get("EngineVersion", ""))
        if version and _numbers(version) < OLDEST_ENGINE:
            yield Problem(
                key="dockerHost",
                found=f"the node {hostname(node)} runs Docker {version}",
                expected=f"Docker {oldest} or newer",
                fix=f"curl -fsSL https://get.docker.com | sh, on {hostname(node)}",
            )


def _numbers(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version, or as many as it has."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _check_clock(manager: Survey) -> Iterator[Problem]:
    if abs(manager.clock) > CLOCK_SECONDS:
        direction = "ahead of" if manager.clock > 0 else "behind"
        yield Problem(
            key="dockerHost",
            found=f"the manager's clock is {abs(manager.clock):.0f} s {direction} this machine's",
            expected=f"at most {CLOCK_SECONDS} s, since certificates and tokens expire",
            fix="sudo timedatectl set-ntp true, on both",
        )
