"""The images of a stack, pinned by digest.

Swarm would resolve a tag again at every change. A digest means the same image on every node.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import docker
from docker.errors import APIError

from config.problems import Problem, ProblemError, set_command
from config.settings import Settings
from config.types import PLATFORMS, ImageReference
from swarm import registry
from swarm.nodes import ATTESTATION

UNREACHED = re.compile(r"(?i)\bdial\b|lookup|timeout|timed out|refused|unreachable|no such host")


class Pinned(NamedTuple):
    """An image with its digest, and all platforms that its registry names."""

    reference: str
    platforms: tuple[str, ...] = ()


def of_stack(settings: Settings) -> dict[str, ImageReference]:
    """Return the images of all services by config key."""
    cluster, caddy = settings.cluster, settings.caddy
    images = {"image": cluster.image, "notebookImage": cluster.notebook_image}
    return images | ({"caddyImage": caddy.image} if caddy.mode == "managed" else {})


def pin(
    engine: "docker.APIClient", key: str, image: ImageReference, platforms: Sequence[str]
) -> Pinned:
    """Return an image that is made for all platforms, by the digest that its registry has.

    `key` is its config key. Raises `ProblemError`.
    """
    try:
        distribution = engine.inspect_distribution(str(image))  # type: ignore[no-untyped-call]
    except APIError as error:
        if refusal := registry.refusal(key, image, error):
            raise ProblemError(refusal) from None
        if image.digest:
            return Pinned(_left_to_nodes(key, image, error))
        # A registry that does not answer knows neither the image nor a login.
        silent = UNREACHED.search(str(error.explanation))
        push, pull = f"docker push {image}, docker login", f"docker pull {image}, on the manager"
        problem = Problem(
            key=key,
            found=f"{str(image)!r} cannot be resolved to a digest ({error.explanation})",
            expected="an image in a registry that the manager can reach, or one with its digest",
            fix=f"{pull if silent else push}, or {set_command(key, f'{image}@sha256:…')}",
        )
        raise ProblemError(problem) from None
    described = distribution.get("Platforms") or []
    made = sorted({f"{one.get('os', '')}/{one.get('architecture', '')}" for one in described})
    _check_platforms(key, image, platforms, [p for p in made if p != ATTESTATION])
    reference = str(image) if image.digest else f"{image}@{distribution['Descriptor']['digest']}"
    return Pinned(reference, tuple(made))


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


def _check_platforms(
    key: str, image: ImageReference, wanted: Sequence[str], made: Sequence[str]
) -> None:
    """Refuse an image that is not made for every platform.

    `made` are the platforms of an index or, from most engines, that of a single image.
    """
    several = len(wanted) > 1
    if {*wanted} <= {*made} or not (made or several):
        return
    known = [platform for platform in PLATFORMS if platform in made]
    choice = [platform for platform in known if platform in wanted] or known
    build = f"docker buildx build --platform {','.join(wanted)} --push, for {image.repository}"
    fixes = [set_command("platform", ",".join(choice))] if choice else []
    fixes += [build] if several or not choice else []
    by_index = ", by the digest of its index" if image.digest and several else ""
    problem = Problem(
        key=key,
        found=f"{str(image)!r} is made for {', '.join(made) or 'one platform'}",
        expected=f"an image for {' and '.join(wanted)}{by_index}",
        fix=", or ".join(fixes),
    )
    raise ProblemError(problem)
