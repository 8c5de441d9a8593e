"""What the program must ask the Swarm before it can declare anything; it only reads.

Owns: the digest behind an image's tag, the id of the external network and whether the services are
as they were proven; what else the Swarm must be is `preflight.py`'s, and told together with them.
Image digests are pinned because the Swarm would otherwise resolve a tag anew at every change, and
networks are attached by id because a name shows as a change at every refresh.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import docker
from docker.errors import APIError, DockerException
from requests.exceptions import RequestException

from config.problems import ConfigError, complaint, set_command
from config.settings import Settings
from config.types import ImageReference, Platform
from swarm import drift, preflight
from swarm.client import SshError, connect
from swarm.nodes import Node, matches, usable
from swarm.preflight import Survey, UnfitManagerError

LOOPBACK = "127.0.0.1"
NO_ADDRESS = {"", "0.0.0.0", LOOPBACK}  # noqa: S104  what a node may say that has none of its own
ANSWER_TIMEOUT = 30  # seconds; a registry behind the manager answers within it or not at all

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Site:
    """What was found: images as `repository:tag@sha256:…`, the id of Caddy's network if any.

    Caddy's image is looked for only where the stack runs Caddy, its network only where not.
    `front_addresses` is where names under localhost are, which no name server knows. `touched`
    names the services that somebody else has changed since they were proven.
    """

    image: str
    notebook_image: str
    caddy_image: str | None
    caddy_network_id: str | None
    front_addresses: tuple[str, ...]
    touched: str = ""


def look_up(settings: Settings) -> Site:
    """Ask the manager at `dockerHost`; raises `ConfigError` with every problem found."""
    problems: list[str] = []

    def found(ask: Callable[[], _T]) -> _T | None:
        try:
            return ask()
        except ValueError as problem:
            problems.append(str(problem))
            return None

    with _manager(settings.docker_host) as engine:
        swarm = preflight.survey(engine, settings.docker_host)
        problems += preflight.problems(swarm, settings)
        image = found(lambda: _pinned(engine, "image", settings.image, settings.platform))
        notebook_image = found(
            lambda: _pinned(engine, "notebookImage", settings.notebook_image, settings.platform)
        )
        caddy_image = found(lambda: _caddy_image(engine, settings))
        network_id = found(lambda: _caddy_network_id(engine, settings, swarm))
        addresses = front_addresses(swarm.nodes, settings)
        touched = _touched(engine)
    if problems or image is None or notebook_image is None:
        raise _misfit(settings.docker_host, problems)
    return Site(
        image=image,
        notebook_image=notebook_image,
        caddy_image=caddy_image,
        caddy_network_id=network_id,
        front_addresses=addresses,
        touched=touched,
    )


def _touched(engine: "docker.APIClient") -> str:
    configs = engine.configs()  # type: ignore[no-untyped-call]
    services = engine.services()  # type: ignore[no-untyped-call]
    return drift.touched(configs, services)


def _misfit(host: str, problems: list[str]) -> ConfigError:
    return ConfigError(f"The Swarm at {host} does not fit the configuration", problems)


@contextmanager
def _manager(host: str) -> "Iterator[docker.APIClient]":
    try:
        with connect(host, seconds=ANSWER_TIMEOUT) as engine:
            yield engine
    except UnfitManagerError as error:
        raise _misfit(host, [str(error)]) from None
    except SshError as error:
        found = f"{host!r} cannot be reached: {error.cause.text}"
        raise _misfit(
            host, [complaint("dockerHost", found, "a manager that lets you in", error.cause.cure)]
        ) from None
    except (DockerException, RequestException) as error:
        found = f"{host!r} does not answer ({error})"
        cure = f"docker --host {host} info"
        allowed = "the address of a running engine"
        raise _misfit(host, [complaint("dockerHost", found, allowed, cure)]) from None


def _pinned(
    engine: "docker.APIClient", key: str, image: ImageReference, platform: Platform
) -> str:
    try:
        found = engine.inspect_distribution(str(image))  # type: ignore[no-untyped-call]
    except APIError as error:
        if image.digest:
            return _known_to_nodes(key, image, error)
        raise ValueError(
            complaint(
                key,
                f"{str(image)!r} cannot be resolved to a digest ({error.explanation})",
                "an image in a registry that the manager can reach, or one with its digest",
                f"docker push {image}, docker login, or {key} {image}@sha256:…",
            )
        ) from None
    _check_platform(key, image, platform, found.get("Platforms") or [])
    return str(image) if image.digest else f"{image}@{found['Descriptor']['digest']}"


def _known_to_nodes(key: str, image: ImageReference, error: APIError) -> str:
    """Return a pinned image that the manager cannot see, unless its registry says it has none."""
    if not re.search("manifest unknown|name unknown", str(error.explanation)):
        return str(image)
    found = f"{str(image)!r} is not in its registry ({error.explanation})"
    allowed = "a digest that the registry has"
    tag = f"{image.repository}:{image.tag or '<tag>'}"
    raise ValueError(complaint(key, found, allowed, set_command(key, tag))) from None


def _check_platform(
    key: str, image: ImageReference, platform: Platform, made_for: list[dict[str, str]]
) -> None:
    known = [f"{each.get('os')}/{each.get('architecture')}" for each in made_for]
    wanted = f"{platform.os}/{platform.architecture}"
    if known and wanted not in known:
        found = f"{str(image)!r} is made for {', '.join(known)}"
        raise ValueError(
            complaint(key, found, f"an image for {wanted}", set_command("platform", known[0]))
        )


def _caddy_image(engine: "docker.APIClient", settings: Settings) -> str | None:
    if settings.caddy_mode != "managed":
        return None
    return _pinned(engine, "caddyImage", settings.caddy_image, settings.platform)


def _caddy_network_id(engine: "docker.APIClient", settings: Settings, swarm: Survey) -> str | None:
    if settings.caddy_mode != "external":
        return None
    name, service = settings.caddy_network, settings.caddy_service
    alone = settings.delivers and service and service not in swarm.services.values()
    named = [each for each in engine.networks(names=[name]) if each["Name"] == name]
    return choose_network(named, name, container=service if alone else "")


def choose_network(named: list[dict[str, Any]], name: str, *, container: str) -> str:
    """Return the id of the network that services can join, out of those with its name.

    `container` is one outside the Swarm's services that has to be on it too, if any.
    """
    overlays = [each for each in named if each["Scope"] == "swarm"]
    create = f"docker network create --driver overlay {name}"
    if not overlays:
        found = f"the Swarm has no overlay network {name!r}"
        if named:
            found += f", only the manager a {named[0]['Driver']} network of that name"
            create = f"{create}-overlay && {set_command('caddyNetwork', f'{name}-overlay')}"
        allowed = "the network that Caddy is on, or none with caddyMode none"
        raise ValueError(complaint("caddyNetwork", found, allowed, create))
    network = overlays[0]
    if network.get("Ingress") or network.get("ConfigOnly"):
        found = f"{name!r} is no network that a service can join"
        other = set_command("caddyNetwork", "caddy-network")
        raise ValueError(complaint("caddyNetwork", found, "another overlay network", other))
    if container and not network.get("Attachable"):
        found = f"{name!r} is not attachable, and {container!r} is a container, not a service"
        cure = f"docker network create --driver overlay --attachable {name}"
        raise ValueError(complaint("caddyNetwork", found, "an attachable network", cure))
    return str(network["Id"])


def front_addresses(nodes: Sequence[Node], settings: Settings) -> tuple[str, ...]:
    """Return where this machine may reach a Caddy that serves names under localhost."""
    if not settings.is_local:
        return ()
    wanted = settings.control_placement
    fit = [n for n in nodes if usable(n) and all(matches(n, each) for each in wanted)]
    known = [node.get("Status", {}).get("Addr", "") for node in fit]
    # A laptop's engine publishes on the loopback, whatever address its Swarm has.
    return (*(each for each in known if each not in NO_ADDRESS), LOOPBACK)
