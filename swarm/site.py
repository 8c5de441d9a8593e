"""What the program looks up on the Swarm before it declares anything; it only reads.

Owns the ids of external networks. `images.py` finds the digests of tags, `drift.py` the services
that drifted since they were proven; `preflight.py` checks the rest, `registry.py` the logins. All
problems are reported together. Networks are attached by id because a name shows as a change at
every refresh.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import docker
from docker.errors import DockerException
from requests.exceptions import RequestException

from config.problems import ConfigError, Problem, ProblemError, set_command
from config.settings import Settings
from config.types import ImageReference
from swarm import clusters, drift, images, ingress, networks, preflight, registry, upgrades
from swarm.client import SshError, connect
from swarm.networks import Network
from swarm.nodes import Node, fits, usable
from swarm.preflight import Survey
from swarm.proof_record import Config, newest, proven_versions
from swarm.snapshot import Service, declared_hash

LOOPBACK = "127.0.0.1"
NO_ADDRESS = {"", "0.0.0.0", LOOPBACK}  # noqa: S104  the address of a node that has none
ANSWER_SECONDS = 30  # a registry behind the manager answers within them or not at all

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Site:
    """Images as `repository:tag@sha256:…`, external networks by id, the services that drifted.

    `caddy_image` is None unless the stack runs Caddy, `caddy_network_id` unless Caddy is external,
    `network_id` (with `network_subnets`) unless the cluster's network is. `ingress_addresses` are
    for names under localhost, which no name server knows. `changed_images` are the keys of images
    that running services get. `warnings` are an outage, if the deployment `replaces_network`, what
    is lost, if it changes images or `replaces_scheduler`, problems that do not concern it, if the
    workers keep `held_hash`, and updates that have no room. `logins` are the registries that need
    this machine's login. The platforms of an image are all that its registry names, with
    attestations; none if unknown.
    """

    image: str
    notebook_image: str
    caddy_image: str | None
    caddy_network_id: str | None
    ingress_addresses: tuple[str, ...]
    drifted: str = ""
    network_id: str | None = None
    network_subnets: tuple[str, ...] = ()
    other_network_ids: tuple[str, ...] = ()
    replaces_network: bool = False
    replaces_scheduler: bool = False
    changed_images: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    held_hash: str = ""
    logins: tuple[str, ...] = ()
    image_platforms: tuple[str, ...] = ()
    notebook_image_platforms: tuple[str, ...] = ()
    caddy_image_platforms: tuple[str, ...] = ()


def find(settings: Settings) -> Site:
    """Ask the manager at `dockerHost`; raises `ConfigError` with every problem."""
    refusals: list[Problem] = []

    def ask(question: Callable[[], _T]) -> _T | None:
        try:
            return question()
        except ProblemError as error:
            refusals.append(error.problem)
            return None

    cluster, all_images = settings.cluster, images.of_stack(settings)
    with _manager(cluster.docker_host, all_images.values()) as (engine, logins):
        manager = preflight.survey(engine, cluster.docker_host, cluster.name)
        needed_logins = registry.needed_logins(engine, all_images.values(), logins)
        answers = {
            key: ask(partial(images.pin, engine, key, image, cluster.platforms))
            for key, image in all_images.items()
        }
        configs = engine.configs()  # type: ignore[no-untyped-call]
    caddy_network_id = ask(lambda: _caddy_network_id(settings, manager))
    network_id = ask(lambda: _network_id(settings, manager))
    others = [ask(partial(_other_network_id, name, manager)) for name in settings.network.others]
    outage = networks.outage(manager.networks, settings.network)
    # Another network replaces the workers.
    waiting = [] if outage else preflight.waiting_workers(manager, settings, answers["image"])
    known, services = manager.networks.networks, manager.services
    problems = [
        *preflight.problems(manager, settings, waiting),
        *ingress.problems(known, services, manager.tasks, settings),
        *refusals,
        *filter(None, [clusters.shared_network(known, services, settings)]),
    ]
    if problems:
        raise _unfit(cluster.docker_host, problems)
    pinned = {key: image for key, image in answers.items() if image}
    image, notebook_image = pinned["image"], pinned["notebookImage"]
    caddy_image = pinned.get("caddyImage")
    compared = {"image": image.reference, "notebookImage": notebook_image.reference}
    changed, scheduler, lost = _losses(settings, services, configs, compared)
    deployed = preflight.deployed_workers(manager, settings)
    tolerated = [*waiting, *preflight.updates_without_room(manager, settings)]
    return Site(
        image=image.reference,
        notebook_image=notebook_image.reference,
        caddy_image=caddy_image.reference if caddy_image else None,
        image_platforms=image.platforms,
        notebook_image_platforms=notebook_image.platforms,
        caddy_image_platforms=caddy_image.platforms if caddy_image else (),
        caddy_network_id=caddy_network_id,
        network_id=network_id,
        network_subnets=tuple(manager.networks.subnets) if network_id else (),
        other_network_ids=tuple(other for other in others if other),
        replaces_network=bool(outage),
        replaces_scheduler=scheduler or bool(outage),
        changed_images=tuple(changed),
        ingress_addresses=ingress_addresses(manager.nodes, settings),
        drifted=drift.drifted(configs, services, cluster.name, can_be_complete=not waiting),
        held_hash=declared_hash(deployed) or "" if waiting and deployed else "",
        warnings=(*outage, *lost, *(f"{p.key}: {p.found}; fix: {p.fix}" for p in tolerated)),
        logins=needed_logins,
    )


def _losses(
    settings: Settings,
    services: Sequence[Service],
    configs: Iterable[Config],
    images: Mapping[str, str],
) -> tuple[Mapping[str, str], bool, list[str]]:
    """Return which images change, whether the scheduler is replaced, and the warnings.

    `images` is config key to pinned image.
    """
    cluster = settings.cluster.name
    changed = upgrades.changed_images(services, cluster, images)
    scheduler = upgrades.replaces_scheduler(services, cluster, upgrades.scheduler_hash(settings))
    warnings = upgrades.warnings(
        changed,
        images,
        proven_versions(newest(configs, cluster)),
        scheduler=scheduler,
        idle_seconds=settings.health.idle_deadline,
    )
    return changed, scheduler, warnings


def _unfit(host: str, problems: Sequence[Problem]) -> ConfigError:
    return ConfigError(f"The Swarm at {host} does not fit the configuration", problems)


@contextmanager
def _manager(
    host: str, all_images: Iterable[ImageReference]
) -> "Iterator[tuple[docker.APIClient, registry.Logins]]":
    try:
        logins = registry.find_logins(all_images)  # first, because the client reads them too
        with connect(host, seconds=ANSWER_SECONDS) as engine:
            yield engine, logins
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
        here = host.startswith("unix://")
        other = f", or {set_command('dockerHost', 'ssh://<user>@<manager>')}" if here else ""
        problem = Problem(
            key="dockerHost",
            found=f"{host!r} does not answer ({error})",
            expected="the address of a running engine",
            fix=f"docker --host {host} info{other}",
        )
        raise _unfit(host, [problem]) from None


def _caddy_network_id(settings: Settings, manager: Survey) -> str | None:
    if settings.caddy.mode != "external":
        return None
    name, service = settings.caddy.network, settings.caddy.service
    names = {known["Spec"]["Name"] for known in manager.services}
    outside = settings.installs_sites and service and service not in names
    expected = "the network that Caddy is on, or caddyMode none"
    container = service if outside else ""
    return _choose_network(manager, "caddyNetwork", name, expected, container=container)


def _network_id(settings: Settings, manager: Survey) -> str | None:
    if settings.network.mode == "managed":
        return None
    expected = "a network made by hand, or networkMode managed"
    return _choose_network(manager, "networkMode", manager.networks.name, expected)


def _other_network_id(name: str, manager: Survey) -> str:
    return _choose_network(manager, "networks", name, "the network of existing services")


def _choose_network(
    manager: Survey, key: str, name: str, expected: str, *, container: str = ""
) -> str:
    """Return the id of the network with a name that services can join.

    `container` is a container outside the Swarm that must join it too, if any.
    """
    named = [network for network in manager.networks.networks if network["Name"] == name]
    overlays = [network for network in named if network["Scope"] == "swarm"]
    if not overlays:
        raise ProblemError(_no_overlay(named, key, name, expected))
    network = overlays[0]
    if network.get("Ingress") or network.get("ConfigOnly"):
        problem = Problem(
            key=key,
            found=f"services cannot join the network {name!r}",
            expected="another overlay network",
            fix=f"docker network create --driver overlay {name}-overlay",
        )
        raise ProblemError(problem)
    if container and not network.get("Attachable"):
        problem = Problem(
            key=key,
            found=f"{name!r} is not attachable, but {container!r} is a container, not a service",
            expected="an attachable network",
            fix=f"docker network create --driver overlay --attachable {name}",
        )
        raise ProblemError(problem)
    return str(network["Id"])


def _no_overlay(named: Sequence[Network], key: str, name: str, expected: str) -> Problem:
    found = f"the Swarm has no overlay network {name!r}"
    fix = f"docker network create --driver overlay {name}"
    if named:
        found += f"; only the manager has a {named[0]['Driver']} network of that name"
        renames = key == "caddyNetwork"
        new = f"{fix}-overlay && {set_command(key, f'{name}-overlay')}"
        fix = new if renames else f"docker network rm {name} && {fix}"
    return Problem(key=key, found=found, expected=expected, fix=fix)


def ingress_addresses(nodes: Sequence[Node], settings: Settings) -> tuple[str, ...]:
    """Return where this machine may reach a Caddy that serves names under localhost."""
    if settings.ingress is None or not settings.ingress.is_local:
        return ()
    rules, platforms = settings.shared.control_placement, settings.cluster.platforms
    fit = [node for node in nodes if usable(node) and fits(node, rules, platforms)]
    addresses = [node.get("Status", {}).get("Addr", "") for node in fit]
    # A laptop's engine publishes ports on the loopback, whatever address its Swarm has.
    return (*(address for address in addresses if address not in NO_ADDRESS), LOOPBACK)
