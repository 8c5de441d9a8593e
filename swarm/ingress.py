"""Whether a Swarm fits the Caddy that the settings want; pure.

Owns what must hold before one Caddy, or one network of Caddy, takes the place of another: the
stack creates and removes the network of a managed Caddy, and leaves every other network as it is.
"""

from collections.abc import Iterable, Iterator, Sequence

from config import workloads
from config.problems import Problem, set_command
from config.settings import Settings
from swarm.networks import Network, is_labelled, leave_commands, services_on
from swarm.nodes import Task
from swarm.snapshot import Service


def problems(
    networks: Iterable[Network],
    services: Sequence[Service],
    tasks: Iterable[Task],
    settings: Settings,
) -> Iterator[Problem]:
    """Yield the problems of Caddy's networks, and of an existing Caddy that does not run."""
    own = own_services(settings)
    for network in networks:
        users = services_on(services, network["Id"])
        yield from _check_network(network, users, own, settings)
    yield from _check_existing_caddy(services, tasks, settings)


def own_services(settings: Settings) -> list[str]:
    """Return the names of this stack's services that may be on Caddy's network; Caddy's first."""
    kinds = (workloads.caddy, workloads.scheduler, workloads.notebook, workloads.prefect)
    return [workload(settings).name for workload in kinds]


def _check_network(
    network: Network, users: Sequence[str], own: Sequence[str], settings: Settings
) -> Iterator[Problem]:
    mode, name = settings.caddy.mode, network["Name"]
    is_wanted = name == settings.caddy.network and network["Scope"] == "swarm"
    # An `up` that failed half-way may have left the network without Caddy.
    is_own = own[0] in users or (is_labelled(network) and {*users} <= {*own})
    if is_wanted and mode == "managed":
        if not is_own:
            yield _taken(name)
    elif is_wanted and mode == "external" and is_own:
        yield _removed(name)
    elif own[0] in users and (foreign := [user for user in users if user not in own]):
        yield _in_use(name, foreign)


def _taken(name: str) -> Problem:
    return Problem(
        key="caddyNetwork",
        found=f"the Swarm has a network {name!r} already, which this stack has not created",
        expected="another name, because a managed Caddy gets a network that only this stack uses",
        fix=set_command("caddyNetwork", f"dask-{name}"),
    )


def _removed(name: str) -> Problem:
    new = f"{name}-external"
    return Problem(
        key="caddyNetwork",
        found=f"{name!r} is the network of this stack's managed Caddy and is removed with it",
        expected="the network of the existing Caddy",
        fix=f"docker network create --driver overlay {new} && {set_command('caddyNetwork', new)}",
    )


def _in_use(name: str, foreign: Sequence[str]) -> Problem:
    return Problem(
        key="caddyNetwork",
        found=f"{name!r} cannot be removed: {', '.join(foreign)} of another stack uses it",
        expected="no other service on the network of this stack's managed Caddy",
        fix=leave_commands(foreign, name),
    )


def _check_existing_caddy(
    services: Sequence[Service], tasks: Iterable[Task], settings: Settings
) -> Iterator[Problem]:
    name, managed = settings.caddy.service, own_services(settings)[0]
    ids = {str(service["Spec"]["Name"]): service["ID"] for service in services}
    if not settings.installs_sites or name not in ids:
        return
    running = [task["ServiceID"] for task in tasks if task["Status"]["State"] == "running"]
    if ids[name] in running:
        return
    ports = f"; {managed} of this stack has the ports 80 and 443" if managed in ids else ""
    yield Problem(
        key="caddyService",
        found=f"{name!r} has no running task{ports}",
        expected="a Caddy that runs, so that it can take the sites",
        fix=f"docker service scale {managed}=0" if ports else f"docker service ps {name}",
    )
