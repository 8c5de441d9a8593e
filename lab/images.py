"""Build the project's images with one engine and publish them in one registry.

A reference `<registry>/dask-swarm:<Dask version>` moves with the content. A second tag names the
content, so that a finished build is known.
"""

import io
from collections.abc import Iterable
from dataclasses import dataclass

import docker
from docker.errors import APIError, ImageNotFound

from lab import caddy, context, registry
from lab.debian import BASE
from lab.engine import follow
from lab.shell import LabError, say, step

TARGETS = {"dask": "dask-swarm", "notebook": "dask-swarm-notebook"}
CADDY = "caddy"
STEP_SECONDS = 900  # the longest silence of an engine while it builds or pulls


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image: what it is built from and how it is referred to."""

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
        digests = {
            registry.digest(self.registry, self.repository, tag)
            for tag in (self.version, self.content_tag)
        }
        return digests.pop() if len(digests) == 1 else None


def current_images(host: str, base: str) -> list[Image]:
    """The images as the files in images/ describe them now, for the registry at `host:port`."""
    version, content = context.dask_version(), context.content_hash(base)
    dask_images = [
        Image(
            target=target,
            registry=host,
            repository=repository,
            version=version,
            content=content,
        )
        for target, repository in TARGETS.items()
    ]
    caddy_image = Image(
        target=CADDY,
        registry=host,
        repository="dask-swarm-caddy",
        version=caddy.SERIES,
        content=context.caddy_hash(base, caddy.VERSION),
    )
    return [*dask_images, caddy_image]


def publish(engine: "docker.APIClient", images: Iterable[Image], base: str) -> None:
    """Build the images and push them under both their tags."""
    for image in images:
        with step(f"building {image.reference}"):
            if image.target == CADDY:
                _provide_caddy(engine, image, base)
            else:
                _build(engine, image, base, context.archive())
        _push(engine, image)


def copy(engine: "docker.APIClient", image: Image, host: str) -> bool:
    """Publish what another registry at `host:port` has of the same content; whether it has it."""
    if not registry.digest(host, image.repository, image.content_tag):
        return False
    source = f"{host}/{image.repository}"
    with step(f"copying {source}:{image.content_tag}"):
        follow(engine.pull(source, image.content_tag, stream=True, decode=True), source)
        engine.tag(f"{source}:{image.content_tag}", image.name, image.version)
    _push(engine, image)
    return True


def _push(engine: "docker.APIClient", image: Image) -> None:
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


def _provide_caddy(engine: "docker.APIClient", image: Image, base: str) -> None:
    """Take the official image where it can be had, else build an image around the program."""
    official = f"{CADDY}:{caddy.VERSION}"
    program = None
    if base == BASE:  # made from packages: no public registry is within reach
        program = caddy.fetch_caddy()
    else:
        try:
            follow(engine.pull(CADDY, caddy.VERSION, stream=True, decode=True), official)
        except (LabError, APIError) as error:
            say(f"{official}: cannot be pulled ({error}). Building an image instead")
        else:
            engine.tag(official, image.name, image.version)
            return
    _build(engine, image, base, context.caddy_archive(program or caddy.build_caddy()))


def _build(engine: "docker.APIClient", image: Image, base: str, archive: io.BytesIO) -> None:
    progress = engine.build(
        fileobj=archive,
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
