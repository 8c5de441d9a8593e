"""A Swarm's members, their labels, and the network of Caddy."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import docker
from docker.errors import APIError

from lab.engine import connect
from lab.layout import Node
from lab.shell import LabError, wait_for

CADDY_NETWORK = "caddy-network"
_PORT = 2377


def form(nodes: Sequence[Node]) -> None:
    """Join the nodes to one Swarm, the first as its only manager; goes on after an interruption.

    Raises `LabError` when a node is not ready within 60 s.
    """
    master, *others = nodes
    with connect(master.docker_host) as manager:
        if _settled(manager) != "active":
            _leave(manager)
            manager.init_swarm(advertise_addr=master.address, listen_addr=_endpoint(master))
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda node: _join(node, manager, master), others))
        names = {node.hostname for node in nodes}
        wait_for("every node being ready", lambda: names <= _ready(manager), seconds=60)
        for node in nodes:
            label(manager, node.hostname, node.role)
        ensure_network(manager, CADDY_NETWORK)


def membership(engine: "docker.APIClient") -> dict[str, Any]:
    """What an engine knows of its Swarm: node id, whether it manages, the number of nodes."""
    swarm: dict[str, Any] = engine.info()["Swarm"]
    return swarm


def label(manager: "docker.APIClient", hostname: str, role: str) -> None:
    """Label a node with its role, unless it has it."""
    node = next(node for node in manager.nodes() if _hostname(node) == hostname)
    spec = node["Spec"]
    labels = spec.get("Labels", {})
    if labels.get("role") != role:
        version = node["Version"]["Index"]
        manager.update_node(node["ID"], version, spec | {"Labels": labels | {"role": role}})


def ensure_network(manager: "docker.APIClient", name: str) -> None:
    """Create an overlay network that belongs to no stack."""
    if not manager.networks(names=[name]):
        manager.create_network(name, driver="overlay", attachable=True)


def _join(node: Node, manager: "docker.APIClient", master: Node) -> None:
    with connect(node.docker_host) as engine:
        known = {member["ID"] for member in manager.nodes()}
        if _settled(engine) == "active" and membership(engine)["NodeID"] in known:
            return
        _leave(engine)
        _forget(manager, node.hostname)
        engine.join_swarm(
            [_endpoint(master)],
            join_token=manager.inspect_swarm()["JoinTokens"]["Worker"],
            advertise_addr=node.address,
            listen_addr=_endpoint(node),
        )


def _leave(engine: "docker.APIClient") -> None:
    if membership(engine)["LocalNodeState"] != "inactive":
        engine.leave_swarm(force=True)


def _forget(manager: "docker.APIClient", hostname: str) -> None:
    """Remove a node from the Swarm that no longer knows of its membership."""
    for node in manager.nodes():
        if _hostname(node) == hostname:
            manager.remove_node(node["ID"], force=True)


def _settled(engine: "docker.APIClient") -> str:
    """The state of a restarted engine that is back in its Swarm, or has tried to for 30 s."""

    def settled() -> bool:
        return bool(membership(engine)["LocalNodeState"] != "pending")

    with suppress(LabError):
        wait_for("the engine's return to its Swarm", settled, seconds=30)
    return str(membership(engine)["LocalNodeState"])


def _ready(manager: "docker.APIClient") -> set[str]:
    try:
        nodes = manager.nodes()
    except APIError:
        return set()  # no leader yet, just after a restart
    return {_hostname(node) for node in nodes if node["Status"]["State"] == "ready"}


def _hostname(node: dict[str, Any]) -> str:
    return str(node["Description"].get("Hostname", ""))  # unknown until a node has reported


def _endpoint(node: Node) -> str:
    return f"{node.address}:{_PORT}"
