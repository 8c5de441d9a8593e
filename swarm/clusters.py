"""What the other clusters and services of a Swarm have that a cluster cannot share with them.

Owns how the services of other clusters are recognized. Pure, over the manager's answers.
"""

from collections.abc import Iterable, Sequence
from itertools import chain

from config.problems import Problem, set_command
from config.settings import Settings
from config.workloads import caddy, workloads
from swarm.manager import cluster_of
from swarm.networks import Network, services_on
from swarm.nodes import Node, Task, fits, hostname, usable
from swarm.snapshot import Service, declared_hash

CADDY_PORTS = (80, 443)


def shared_network(
    networks: Iterable[Network], services: Iterable[Service], settings: Settings
) -> Problem | None:
    """Return the problem of the network of an existing Caddy that another cluster is on too.

    All services on a network reach each other, so each cluster has a network with Caddy.
    """
    if settings.caddy.mode != "external":
        return None
    cluster, network = settings.cluster.name, settings.caddy.network
    ids = [known["Id"] for known in networks if known["Name"] == network]
    labelled = [service for service in services if declared_hash(service)]
    names = chain.from_iterable(services_on(labelled, identifier) for identifier in ids)
    if not (others := {cluster_of(name) for name in names} - {cluster}):
        return None
    new = f"{cluster}-caddy-network"
    create = f"docker network create --driver overlay {new} && docker service update --network-add"
    join = f"{create} {new} {settings.caddy.service or '<caddy>'}"
    return Problem(
        key="caddyNetwork",
        found=f"{network!r} is the network of the cluster {', '.join(sorted(others))} too, "
        "and each could use the other's dashboard",
        expected="a network that Caddy shares with this cluster alone",
        fix=f"{join} && {set_command('caddyNetwork', new)}",
    )


def taken_ports(
    services: Iterable[Service], tasks: Iterable[Task], nodes: Iterable[Node], settings: Settings
) -> Problem | None:
    """Return the problem of a managed Caddy without a node whose ports are free."""
    if settings.caddy.mode != "managed":
        return None
    rules, platforms = caddy(settings).constraints, settings.cluster.platforms
    fit = [n for n in nodes if usable(n) and fits(n, rules, platforms)]
    own = {workload.name for workload in workloads(settings)}
    taken = _takers([s for s in services if _name(s) not in own], list(tasks), fit)
    if not fit or len(taken) < len(fit):
        return None
    takers = "; ".join(f"{name} has port {port} of {node}" for node, (name, port) in taken.items())
    return Problem(
        key="caddyMode",
        found=f"managed, but {takers}",
        expected="a node of controlPlacement with free ports 80 and 443, or another caddyMode",
        fix=set_command("caddyMode", "external"),
    )


def _takers(
    services: Iterable[Service], tasks: Sequence[Task], nodes: Sequence[Node]
) -> dict[str, tuple[str, int]]:
    """Return node to the service that has one of Caddy's ports there, and the port."""
    taken: dict[str, tuple[str, int]] = {}
    for service in services:
        places = {task.get("NodeID") for task in tasks if task["ServiceID"] == service["ID"]}
        for port in (service.get("Endpoint") or {}).get("Ports") or []:
            number, everywhere = port.get("PublishedPort"), port["PublishMode"] == "ingress"
            if number in CADDY_PORTS and port["Protocol"] == "tcp":
                here = [node for node in nodes if everywhere or node["ID"] in places]
                taken |= {hostname(node): (_name(service), number) for node in here}
    return taken


def _name(service: Service) -> str:
    return str(service["Spec"]["Name"])
