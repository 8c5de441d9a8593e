"""The networks of a Swarm: their ranges, their options and the services on them; pure.

Owns when the network of a cluster can be created, adopted or replaced.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from config.names import DEFAULT_CLUSTER, network_name
from config.problems import Problem, set_command
from config.settings import NetworkSettings
from config.types import DEFAULT_MTU, ENCRYPTED_OPTION, MTU_OPTION
from swarm.manager import PROBE_LABELS
from swarm.nodes import Node, hostname
from swarm.snapshot import Service

OWNER_LABEL = "dask.swarm/owner"
# Private ranges of 65536 addresses; a part of one of them is suggested.
SUGGESTED = [
    IPv4Network(f"{start}.0.0/16")
    for start in (*(f"10.{number}" for number in range(64, 128)), "172.28", "192.168")
]

UNREACHABLE = re.compile(r"(?i)no route to host|could ?n[o']t connect|cannot connect|no answer")

Network = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Networks:
    """What a manager knows of networks; Swarm takes new ranges of `pool_length` from `pools`."""

    name: str = network_name(DEFAULT_CLUSTER)  # of the cluster's network
    networks: Sequence[Network] = ()
    services: Sequence[Service] = ()
    nodes: Sequence[Node] = ()
    pools: Sequence[str] = ()
    pool_length: int = 24

    @classmethod
    def of(
        cls,
        name: str,
        info: Mapping[str, Any],
        networks: Sequence[Network],
        services: Sequence[Service],
        nodes: Sequence[Node],
    ) -> "Networks":
        """Return what the engine's answers show; `info` is its `GET /info`."""
        cluster = info["Swarm"].get("Cluster") or {}
        return cls(
            name=name,
            networks=networks,
            services=services,
            nodes=nodes,
            pools=[pool for pool in cluster.get("DefaultAddrPool") or [] if ":" not in pool],
            pool_length=int(cluster.get("SubnetSize") or 24),
        )

    @property
    def existing(self) -> Network | None:
        """The cluster's network, if the Swarm has it."""
        overlays = [n for n in self.networks if n["Scope"] == "swarm"]
        return next((n for n in overlays if n["Name"] == self.name), None)

    @property
    def subnets(self) -> list[str]:
        """The ranges of the cluster's network."""
        return [str(range_) for range_ in _ranges(self.existing or {})]

    @property
    def others(self) -> list[Network]:
        """All other networks that the manager knows."""
        return [network for network in self.networks if network["Name"] != self.name]


def services_on(services: Iterable[Service], network_id: str) -> list[str]:
    """Return the names of the services on a network, without probes."""

    def is_on(spec: Mapping[str, Any]) -> bool:
        is_probe = PROBE_LABELS.items() <= (spec.get("Labels") or {}).items()
        attached = spec["TaskTemplate"].get("Networks") or spec.get("Networks") or []
        return not is_probe and network_id in [network["Target"] for network in attached]

    return sorted(str(s["Spec"]["Name"]) for s in services if is_on(s["Spec"]))


def virtual_ip_causes(message: str, find: Callable[[], Iterable[Service]]) -> list[str]:
    """Return causes and fixes if the message is about a service that does not answer.

    It names the service in a URL. A virtual IP needs IPVS, which some kernels lack. `find` returns
    the services of the Swarm.
    """
    hosts = set(re.findall(r"://([\w.-]+)", message)) if UNREACHABLE.search(message) else set()
    lines: list[str] = []
    for service in find() if hosts else ():
        reached = hosts & {*_names(service["Spec"])}
        if reached and service.get("Endpoint", {}).get("Spec", {}).get("Mode") == "vip":
            host, name = min(reached), service["Spec"]["Name"]
            why = "it does not route on a node whose kernel has no IPVS"
            fix = f"docker service update --endpoint-mode dnsrr {name}, or write tasks.{host}"
            lines += [
                f"cause: {host} is the virtual IP of the service {name}; {why}",
                f"fix:   {fix}, or sudo modprobe ip_vs on all nodes",
            ]
    return lines


def _names(spec: Mapping[str, Any]) -> Iterator[str]:
    yield str(spec["Name"])
    for network in spec["TaskTemplate"].get("Networks") or []:
        yield from network.get("Aliases") or []


def leave_commands(services: Iterable[str], network: str) -> str:
    """Return the commands by which services leave a network."""
    return " && ".join(f"docker service update --network-rm {network} {s}" for s in services)


def check(known: Networks, settings: NetworkSettings, own: Iterable[str]) -> Iterator[Problem]:
    """Yield the problems of the cluster's network; `own` are the names of the stack's services."""
    existing = known.existing
    if existing is None:
        if settings.mode == "managed":
            yield from _check_new_range(known, settings)
        return
    users = services_on(known.services, existing["Id"])
    if settings.mode == "external" and is_labelled(existing):
        yield _created_by_a_stack(known.name)
    elif settings.mode == "external":
        yield from _check_external_range(known)
    # Adopted networks have no label; only the services show that they are the stack's.
    elif not is_labelled(existing) and not {*users} & {*own}:
        yield _made_by_hand(known.name)
    elif changes(existing, settings):
        if foreign := [name for name in users if name not in {*own}]:
            yield _in_use(known.name, foreign)
        yield from _check_new_range(known, settings)


def _created_by_a_stack(name: str) -> Problem:
    return Problem(
        key="networkMode",
        found=f"external, but a stack of this program has created {name}",
        expected="a network that no stack replaces or removes",
        fix=set_command("networkMode", "managed"),
    )


def _made_by_hand(name: str) -> Problem:
    return Problem(
        key="networkMode",
        found=f"managed, but {name} exists already, and no service of this stack uses it",
        expected=f"external to use it as it is, or no {name}",
        fix=f"{set_command('networkMode', 'external')}, or docker network rm {name}",
    )


def _in_use(name: str, foreign: Sequence[str]) -> Problem:
    return Problem(
        key="networkSubnet, networkMtu, networkEncrypted",
        found=f"{name} is in use by the services {', '.join(foreign)}, which are not this"
        " stack's, so it cannot be replaced",
        expected="the options that it has, or no other services on it",
        fix=leave_commands(foreign, name),
    )


def changes(network: Network, settings: NetworkSettings) -> list[str]:
    """Return how the settings change a network; an adopted network keeps what is not set."""
    options, range_ = network.get("Options") or {}, ", ".join(map(str, _ranges(network)))
    now = {
        "networkSubnet": range_,
        "networkMtu": options.get(MTU_OPTION, str(DEFAULT_MTU)),
        "networkEncrypted": str(ENCRYPTED_OPTION in options).lower(),
    }
    wanted = now | ({"networkSubnet": settings.subnet} if settings.subnet else {})
    if is_labelled(network) or settings.options:
        encrypted = str(settings.encrypted).lower()
        wanted |= {"networkMtu": str(settings.mtu), "networkEncrypted": encrypted}
    return [f"{key} {now[key]} becomes {wanted[key]}" for key in now if now[key] != wanted[key]]


def is_labelled(network: Network) -> bool:
    """Return whether a stack of this program has created a network."""
    return OWNER_LABEL in (network.get("Labels") or {})


def outage(known: Networks, settings: NetworkSettings) -> list[str]:
    """Return the warning before the cluster's network is replaced, none if it stays."""
    if settings.mode == "external" or known.existing is None:
        return []
    changed = changes(known.existing, settings)
    consequence = (
        f"{known.name} and all services on it are replaced. The cluster is down meanwhile, and "
        "its computations are lost; files stay."
    )
    return [f"{', '.join(changed)}: {consequence}"] if changed else []


def _check_new_range(known: Networks, settings: NetworkSettings) -> Iterator[Problem]:
    before = "" if settings.subnet else "not set, and Swarm may choose "
    ranges = [IPv4Network(settings.subnet)] if settings.subnet else [*_likely_ranges(known)]
    if overlap := _overlap(known, ranges):
        yield _overlapping(before + overlap, set_command("networkSubnet", _free_range(known)))


def _check_external_range(known: Networks) -> Iterator[Problem]:
    if overlap := _overlap(known, _ranges(known.existing or {})):
        create = f"docker network create --driver overlay --subnet {_free_range(known)}"
        fix = f"docker network rm {known.name}; {create} {known.name}"
        yield _overlapping(f"{known.name} has {overlap}", fix)


def _overlapping(found: str, fix: str) -> Problem:
    expected = "a range that no node and no other network uses"
    return Problem(key="networkSubnet", found=found, expected=expected, fix=fix)


def _overlap(known: Networks, ranges: Iterable[IPv4Network]) -> str:
    """Return which range overlaps what, empty if none does."""
    taken = _taken(known)
    for wanted in ranges:
        for range_, owner in taken:
            if wanted.overlaps(range_):
                return f"{wanted}, which overlaps {owner}"
    return ""


def _taken(known: Networks) -> list[tuple[IPv4Network, str]]:
    """Return the addresses of nodes and the ranges of other networks, each with its owner."""
    nodes = [
        (IPv4Network(address), f"the node {hostname(node)} ({address})")
        for node in known.nodes
        for address in _addresses(node)
    ]
    networks = [
        (range_, f"the network {network['Name']} ({range_})")
        for network in known.others
        for range_ in _ranges(network)
    ]
    return nodes + networks


def _addresses(node: Node) -> Iterator[str]:
    as_manager = str((node.get("ManagerStatus") or {}).get("Addr", "")).rpartition(":")[0]
    for address in dict.fromkeys((node.get("Status", {}).get("Addr", ""), as_manager)):
        try:
            if not IPv4Address(address).is_unspecified:
                yield address
        except ValueError:
            continue


def _ranges(network: Network) -> list[IPv4Network]:
    configs = (network.get("IPAM") or {}).get("Config") or []
    subnets = [str(config.get("Subnet") or "") for config in configs]
    return [IPv4Network(s, strict=False) for s in subnets if s and ":" not in s]


def _likely_ranges(known: Networks) -> Iterator[IPv4Network]:
    """Yield the ranges that Swarm may choose: the first free range, and the next free range.

    Older engines go on after the last range that they have chosen.
    """
    used = [r for n in known.others if n["Scope"] == "swarm" for r in _ranges(n)]
    last = max((range_.broadcast_address for range_ in used), default=IPv4Address(0))
    for lowest in (IPv4Address(0), last):
        for pool in known.pools:
            parts = IPv4Network(pool).subnets(new_prefix=known.pool_length)
            free = (part for part in parts if part.network_address >= lowest)
            if chosen := next((p for p in free if not any(map(p.overlaps, used))), None):
                yield chosen
                break


def _free_range(known: Networks) -> str:
    taken = [range_ for range_, _ in _taken(known)]
    free = [part for part in SUGGESTED if not any(map(part.overlaps, taken))]
    return f"{(free or SUGGESTED)[0].network_address}/24"
