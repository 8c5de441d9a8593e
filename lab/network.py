"""Network namespaces, one for each node, and a bridge that joins them to this machine.

The bridge has its own namespace. In this machine's, every frame would pass the FORWARD chain of
its firewall; in the bridge's, the lab needs no rule and no rule can block it.
"""

from contextlib import suppress
from pathlib import Path

from lab import processes
from lab.layout import NAMESPACES, Lab, Node
from lab.shell import LabError, run

_BRIDGE = "bridge"
_MOUNTS = 64  # one above the other, where `ip` was interrupted or ran in several labs


def ensure_network(lab: Lab) -> None:
    """Make what is missing of the lab's network.

    Programs keep the namespace they were started in: where it is lost, they are ended.
    """
    if not _machine_is_joined(lab):
        processes.end(lab.cgroup)
        remove_network(lab)
        _make_switch(lab)
    for node in lab.nodes:
        if not _node_is_joined(node):
            processes.end(node.cgroup)
            _remove_node(lab, node)
            _make_node(lab, node)


def remove_network(lab: Lab) -> None:
    """Delete every namespace and interface of the lab."""
    for node in lab.nodes:
        _remove_node(lab, node)
    # A namespace is taken apart some time after its deletion: the interface is not left to that.
    _try("link delete", lab.link)
    _delete_namespace(lab.switch)
    _remove_if_empty(NAMESPACES)


def set_link(lab: Lab, node: Node, *, up: bool) -> None:
    """Cut a node off the network, or join the node to it again."""
    _ip("-n", lab.switch.name, "link set", node.name, "up" if up else "down")


def is_complete(lab: Lab) -> bool:
    """Whether this machine and every node are on the lab's network."""
    return _machine_is_joined(lab) and all(_node_is_joined(node) for node in lab.nodes)


def _make_switch(lab: Lab) -> None:
    _ip("netns add", lab.switch.name)
    _ip("-n", lab.switch.name, "link add", _BRIDGE, "type bridge")
    _ip("-n", lab.switch.name, "address add", f"{lab.name_server}/24", "dev", _BRIDGE)
    _ip("-n", lab.switch.name, "link set", _BRIDGE, "up")
    _ip("link add", lab.link, "type veth peer name machine netns", lab.switch.name)
    _ip("-n", lab.switch.name, "link set machine master", _BRIDGE, "up")
    _ip("link set", lab.link, "up")
    _ip("address add", f"{lab.gateway}/24", "dev", lab.link)  # last: it marks all as complete


def _machine_is_joined(lab: Lab) -> bool:
    is_linked = f"{lab.gateway}/24" in _try("address show dev", lab.link)
    return is_linked and lab.switch.exists()


def _make_node(lab: Lab, node: Node) -> None:
    namespace = node.namespace.name
    _ip("netns add", namespace)
    _ip(
        "-n",
        lab.switch.name,
        "link add name",
        node.name,
        "type veth peer name eth0 netns",
        namespace,
    )
    _ip("-n", lab.switch.name, "link set dev", node.name, "master", _BRIDGE, "up")
    _ip("-n", namespace, "link set lo up")
    _ip("-n", namespace, "link set eth0 up")
    _ip("-n", namespace, "address add", f"{node.address}/24", "dev eth0")  # last, as above


def _remove_node(lab: Lab, node: Node) -> None:
    _try("-n", lab.switch.name, "link delete dev", node.name)
    _delete_namespace(node.namespace)


def _node_is_joined(node: Node) -> bool:
    return f"{node.address}/24" in _try("-n", node.namespace.name, "address show dev eth0")


def _delete_namespace(namespace: Path) -> None:
    if namespace.exists():
        _ip("netns delete", namespace.name)


def _remove_if_empty(namespaces: Path) -> None:
    """Undo the mount that the first namespace of a machine brings with it."""
    if not namespaces.exists() or any(namespaces.iterdir()):
        return
    with suppress(OSError, LabError):  # another program uses it
        for _ in range(_MOUNTS):
            if namespaces.is_mount():
                run(["umount", str(namespaces)], seconds=10)
        namespaces.rmdir()


def _try(*words: str) -> str:
    try:
        return _ip(*words)
    except LabError:
        return ""


def _ip(*words: str) -> str:
    return run(["ip", *" ".join(words).split()], seconds=10)
