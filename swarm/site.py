"""What the program looks up on the Swarm before it declares anything; it only reads.

Owns the digest of an image's tag, the id of the external network and the services that drifted
since they were proven. `preflight.py` checks the rest; all problems are reported together. Images
are pinned by digest because Swarm would resolve a tag again at every change. Networks are attached
by id because a name shows as a change at every refresh.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import docker
from docker.errors import APIError, DockerException
from requests.exceptions import RequestException

from config.problems import ConfigError, Problem, ProblemError, set_command
from config.settings import Settings
from config.types import ImageReference, Platform
from swarm import clusters, drift, preflight
from swarm.client import SshError, connect
from swarm.nodes import Node, matches, usable
from swarm.preflight import Survey

LOOPBACK = "127.0.0.1"
NO_ADDRESS = {"", "0.0.0.0", LOOPBACK}  # noqa: S104  the address of a node that has none
ANSWER_SECONDS = 30  # a registry behind the manager answers within them or not at all

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Site:
    """Images as `repository:tag@sha256:…`, Caddy's network by id, the services that drifted.

    `caddy_image` is None unless the stack runs Caddy, `caddy_network_id` unless Caddy is external.
    `ingress_addresses` are for names under localhost, which no name server knows. `warnings` are
    problems that do not concern this deployment.
    """

    image: str
    notebook_image: str
    caddy_image: str | None
    caddy_network_id: str | None
    ingress_addresses: tuple[str, ...]
    drifted: str = ""
    warnings: tuple[str, ...] = ()


def find(settings: Settings) -> Site:
    """Ask the manager at `dockerHost`; raises `ConfigError` with every problem."""
    problems: list[Problem] = []

    def ask(question: Callable[[], _T]) -> _T | None:
        try:
            return question()
        except ProblemError as error:
            problems.append(error.problem)
            return None

    cluster = settings.cluster
    with _manager(cluster.docker_host) as engine:
        manager = preflight.survey(engine, cluster.docker_host)
        image = ask(lambda: _pinned(engine, "image", cluster.image, cluster.platform))
        notebook_image = ask(
            lambda: _pinned(engine, "notebookImage", cluster.notebook_image, cluster.platform)
        )
        caddy_image = ask(lambda: _caddy_image(engine, settings))
        network_id = ask(lambda: _caddy_network_id(engine, settings, manager))
        ask(lambda: _refuse_shared_network(engine, settings, manager))
        waiting = preflight.waiting_workers(manager, settings, image)
        drifted = _drifted(engine, cluster.name, can_be_complete=not waiting)
    problems[:0] = preflight.problems(manager, settings, image)
    if problems or image is None or notebook_image is None:
        raise _unfit(cluster.docker_host, problems)
    return Site(
        image=image,
        notebook_image=notebook_image,
        caddy_image=caddy_image,
        caddy_network_id=network_id,
        ingress_addresses=ingress_addresses(manager.nodes, settings),
        drifted=drifted,
        warnings=tuple(f"{p.key}: {p.found}; fix: {p.fix}" for p in waiting),
    )


def _drifted(engine: "docker.APIClient", cluster: str, *, can_be_complete: bool) -> str:
    configs = engine.configs()  # type: ignore[no-untyped-call]
    services = engine.services()  # type: ignore[no-untyped-call]
    return drift.drifted(configs, services, cluster, can_be_complete=can_be_complete)


def _unfit(host: str, problems: Sequence[Problem]) -> ConfigError:
    return ConfigError(f"The Swarm at {host} does not fit the configuration", problems)


@contextmanager
def _manager(host: str) -> "Iterator[docker.APIClient]":
    try:
        with connect(host, seconds=ANSWER_SECONDS) as engine:
            yield engine
    except ProblemError as error:
        raise _unfit(host, [error.problem]) from None
    except SshError as error:
        problem = Problem(
            key="dockerHost",
            found=f"{host!r} cannot be reached: {error.failure.reason}",
            expected="a manager that you can log in to by SSH",
            fix=error.failure.fix,
        )
        raise _unfit(host, [problem]) from None
    except (DockerException, RequestException) as error:
        problem = Problem(
            key="dockerHost",
            found=f"{host!r} does not answer ({error})",
            expected="the address of a running engine",
            fix=f"docker --host {host} info",
        )
        raise _unfit(host, [problem]) from None


def _pinned(
    engine: "docker.APIClient", key: str, image: ImageReference, platform: Platform
) -> str:
    try:
        distribution = engine.inspect_distribution(str(image))  # type: ignore[no-untyped-call]
    except APIError as error:
        if image.digest:
            return _left_to_nodes(key, image, error)
        problem = Problem(
            key=key,
            found=f"{str(image)!r} cannot be resolved to a digest ({error.explanation})",
            expected="an image in a registry that the manager can reach, or one with its digest",
            fix=f"docker push {image}, docker login, or {key} {image}@sha256:…",
        )
        raise ProblemError(problem) from None
    _check_platform(key, image, platform, distribution.get("Platforms") or [])
    return str(image) if image.digest else f"{image}@{distribution['Descriptor']['digest']}"


def _left_to_nodes(key: str, image: ImageReference, error: APIError) -> str:
    """Return a pinned image that the manager cannot see, unless its registry does not have it."""
    if not re.search("manifest unknown|name unknown", str(error.explanation)):
        return str(image)
    problem = Problem(
        key=key,
        found=f"{str(image)!r} is not in its registry ({error.explanation})",
        expected="a digest that the registry has",
        fix=set_command(key, f"{image.repository}:{image.tag or '<tag>'}"),
    )
    raise ProblemError(problem) from None


def _check_platform(
    key: str, image: ImageReference, platform: Platform, described: list[dict[str, str]]
) -> None:
    available = [f"{one.get('os')}/{one.get('architecture')}" for one in described]
    wanted = f"{platform.os}/{platform.architecture}"
    if available and wanted not in available:
        problem = Problem(
            key=key,
            found=f"{str(image)!r} is made for {', '.join(available)}",
            expected=f"an image for {wanted}",
            fix=set_command("platform", available[0]),
        )
        raise ProblemError(problem)


def _caddy_image(engine: "docker.APIClient", settings: Settings) -> str | None:
    if settings.caddy.mode != "managed":
        return None
    return _pinned(engine, "caddyImage", settings.caddy.image, settings.cluster.platform)


def _caddy_network_id(
    engine: "docker.APIClient", settings: Settings, manager: Survey
) -> str | None:
    if settings.caddy.mode != "external":
        return None
    name, service = settings.caddy.network, settings.caddy.service
    outside = settings.installs_sites and service and service not in manager.services.values()
    networks = _networks(engine, name)
    return choose_network(networks, name, container=service if outside else "")


def _networks(engine: "docker.APIClient", name: str) -> list[dict[str, Any]]:
    # The filter matches parts of names too.
    return [network for network in engine.networks(names=[name]) if network["Name"] == name]


def _refuse_shared_network(
    engine: "docker.APIClient", settings: Settings, manager: Survey
) -> None:
    if settings.caddy.mode == "none":
        return
    ids = {network["Id"] for network in _networks(engine, settings.caddy.network)}
    if problem := clusters.shared_network(manager.described, settings, ids):
        raise ProblemError(problem)


def choose_network(networks: list[dict[str, Any]], name: str, *, container: str) -> str:
    """Return the id of the network that services can join, out of those with its name.

    `container` is a container outside the Swarm that must join it too, if any.
    """
    overlays = [network for network in networks if network["Scope"] == "swarm"]
    if not overlays:
        raise ProblemError(_no_overlay(networks, name))
    network = overlays[0]
    if network.get("Ingress") or network.get("ConfigOnly"):
        problem = Problem(
            key="caddyNetwork",
            found=f"services cannot join the network {name!r}",
            expected="another overlay network",
            fix=set_command("caddyNetwork", "caddy-network"),
        )
        raise ProblemError(problem)
    if container and not network.get("Attachable"):
        problem = Problem(
            key="caddyNetwork",
            found=f"{name!r} is not attachable, but {container!r} is a container, not a service",
            expected="an attachable network",
            fix=f"docker network create --driver overlay --attachable {name}",
        )
        raise ProblemError(problem)
    return str(network["Id"])


def _no_overlay(networks: list[dict[str, Any]], name: str) -> Problem:
    found = f"the Swarm has no overlay network {name!r}"
    fix = f"docker network create --driver overlay {name}"
    if networks:
        found += f"; only the manager has a {networks[0]['Driver']} network of that name"
        fix = f"{fix}-overlay && {set_command('caddyNetwork', f'{name}-overlay')}"
    expected = "the network that Caddy is on, or caddyMode none"
    return Problem(key="caddyNetwork", found=found, expected=expected, fix=fix)


def ingress_addresses(nodes: Sequence[Node], settings: Settings) -> tuple[str, ...]:
    """Return where this machine may reach a Caddy that serves names under localhost."""
    if settings.ingress is None or not settings.ingress.is_local:
        return ()
    rules = settings.shared.control_placement
    fit = [node for node in nodes if usable(node) and all(matches(node, rule) for rule in rules)]
    addresses = [node.get("Status", {}).get("Addr", "") for node in fit]
    # A laptop's engine publishes ports on the loopback, whatever address its Swarm has.
    return (*(address for address in addresses if address not in NO_ADDRESS), LOOPBACK)
