"""Where the proven workers run: their addresses held against the Swarm's own list of tasks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any
from urllib.parse import urlsplit

from swarm import UnfitError


def seats(members: Sequence[str], places: Mapping[str, str]) -> dict[str, str]:
    """Return worker address to node; `places` is a task's IP address to its node.

    Raises `UnfitError` for a worker that is no task of the deployment.
    """
    found = {member: places.get(urlsplit(member).hostname or "") for member in members}
    strangers = [member for member, node in found.items() if node is None]
    if strangers:
        raise UnfitError(
            f"found workers that are no task of this deployment: {', '.join(strangers)}; either "
            "the Swarm is stopping them, or they are not its own and must be stopped"
        )
    return {member: node for member, node in found.items() if node is not None}


def spread(seated: Mapping[str, str], at_most: int) -> dict[str, int]:
    """Return node to number of workers; raises `UnfitError` if one has more than `at_most`."""
    nodes = dict(sorted(Counter(seated.values()).items()))
    crowded = [f"{node} has {count}" for node, count in nodes.items() if count > at_most]
    if crowded:
        raise UnfitError(
            f"expected at most {at_most} workers per node, found {', '.join(crowded)}"
        )
    return nodes


def crossings(routes: Sequence[Sequence[str]], seated: Mapping[str, str]) -> int:
    """Return how many transfers went from one node to another.

    Raises `UnfitError` unless there was one from each node to each other.
    """
    crossed = [(seated[a], seated[b]) for a, b in routes if seated[a] != seated[b]]
    missing = set(permutations(set(seated.values()), 2)) - set(crossed)
    if missing:
        pairs = ", ".join(f"{a} to {b}" for a, b in sorted(missing))
        raise UnfitError(
            f"no transfer was tried from {pairs}: have these nodes the same hostname? "
            "Rename one (hostnamectl hostname <name>) and restart its manager"
        )
    return len(crossed)


def result(proof: Mapping[str, Any], places: Mapping[str, str], at_most: int) -> dict[str, Any]:
    """Return the stack's output from the probe's proof; raises `UnfitError`."""
    seated = seats(proof["members"], places)
    nodes = spread(seated, at_most)
    crossed = crossings(proof["routes"], seated)
    kept = {key: proof[key] for key in ("workers", "threads", "memory_bytes")}
    more = {key: proof[key] for key in ("versions", "packages", "tasks")}
    moved = {"transfers": crossed, "transfer_bytes": proof["transfer_bytes"] if crossed else 0}
    optional = {key: proof[key] for key in ("cell", "object_store", "prefect") if key in proof}
    return {**kept, "nodes": nodes, **more, **moved, **optional}
