"""Building the project's images with one engine and publishing them in one registry.

A reference `<registry>/dask-swarm:<Dask version>` moves with the content; beside it each content
has a tag of its own, by which a finished build is found again.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import docker
from docker.errors import APIError, ImageNotFound

from lab import caddy, context, registry
from lab.base import TAG
from lab.shell import LabError, say, step, tail

TARGETS = {"dask": "dask-swarm", "notebook": "dask-swarm-notebook"}
CADDY = "caddy"
STEP_SECONDS = 900  # the longest silence of an engine while it builds or pulls


@dataclass(frozen=True, kw_only=True)
class Image:
    """One of the images: what it is built from and how it is referred to."""

    target: str
    registry: str
    repository: str
    version: str
    content: str

    @property
    def name(self) -> str:
        """Registry and repository, without a tag."""
        return f"{self.registry}/{self.repository}"

    @property
    def reference(self) -> str:
        """What a deployment names."""
        return f"{self.name}:{self.version}"

    @property
    def content_tag(self) -> str:
        """The tag of exactly this content."""
        return f"{self.version}-{self.content}"

    def published(self) -> str | None:
        """The digest of this content if the registry has it under both its tags."""
        found = {
            registry.digest(self.registry, self.repository, tag)
            for tag in (self.version, self.content_tag)
        }
        return found.pop() if len(found) == 1 else None


def wanted(host: str, base: str) -> list[Image]:
    """The images as the files in images/ describe them now, for the registry at `host:port`."""
    version, content = context.dask_version(), context.content_hash(base)
    own = [
        Image(
            target=target,
            registry=host,
            repository=repository,
            version=version,
            content=content,
        )
        for target, repository in TARGETS.items()
    ]
    front = Image(
        target=CADDY,
        registry=host,
        repository="dask-swarm-caddy",
        version=caddy.VERSION,
        content=context.caddy_hash(base, caddy.VERSION),
    )
    return [*own, front]


def publish(engine: "docker.APIClient", images: Iterable[Image], base: str) -> None:
    """Build the images and push them under both their tags."""
    for image in images:
        with step(f"building {image.reference}"):
            if image.target == CADDY:
                _provide_caddy(engine, image, base)
            else:
                _build(engine, image, base)
        with step(f"pushing {image.reference}"):
            for tag in (image.content_tag, image.version):
                engine.tag(image.reference, image.name, tag)
                follow(engine.push(image.name, tag, stream=True, decode=True), image.reference)


def is_pulled(engine: "docker.APIClient", image: Image) -> bool:
    """Whether the engine has what is published."""
    try:
        held = engine.inspect_image(image.reference)["RepoDigests"]  # type: ignore[no-untyped-call]
    except ImageNotFound:
        return False
    return f"{image.name}@{image.published()}" in held


def pull(engine: "docker.APIClient", image: Image) -> None:
    """Pull what is published; `LabError` when the registry does not give it."""
    follow(engine.pull(image.name, image.version, stream=True, decode=True), image.reference)


def follow(progress: Iterable[dict[str, Any]], what: str) -> None:
    """Say each step; raises `LabError` with the last lines of output when one fails."""
    output = ""
    for message in progress:
        text = message.get("stream", "")
        output += text
        if text.startswith("Step "):
            say(text.strip())
        if "error" in message:
            raise LabError(f"{what}: {message['error']}\n{tail(output, 15)}")


def _provide_caddy(engine: "docker.APIClient", image: Image, base: str) -> None:
    """Take the official image where it can be had, else build one from Caddy's source."""
    official = f"{CADDY}:{image.version}"
    # A base made from Debian's packages says that no public registry is within reach.
    if base != TAG:
        try:
            follow(engine.pull(CADDY, image.version, stream=True, decode=True), official)
        except (LabError, APIError) as error:
            say(f"{official} cannot be pulled ({error}): building one instead")
        else:
            engine.tag(official, image.name, image.version)
            return
    _build_caddy(engine, image, base)


def _build_caddy(engine: "docker.APIClient", image: Image, base: str) -> None:
    progress = engine.build(
        fileobj=context.caddy_archive(caddy.built_caddy()),
        custom_context=True,
        encoding=None,
        tag=image.reference,
        buildargs={"BASE_IMAGE": base, **context.proxies()},
        network_mode="host",
        rm=True,
        forcerm=True,
        decode=True,
    )
    follow(progress, image.reference)


def _build(engine: "docker.APIClient", image: Image, base: str) -> None:
    progress = engine.build(
        fileobj=context.archive(),
        custom_context=True,
        encoding=None,
        tag=image.reference,
        target=image.target,
        buildargs={"BASE_IMAGE": base, **context.proxies()},
        labels={"org.opencontainers.image.version": image.version},
        network_mode="host",
        rm=True,
        forcerm=True,
        decode=True,
    )
    follow(progress, image.reference)
