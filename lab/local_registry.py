"""A registry in a container, on the loopback of the machine whose engine runs it."""

import io
from pathlib import Path

import docker
from docker.errors import NotFound

from lab import registry
from lab.images import follow
from lab.services import registry_config
from lab.shell import step, wait_for

OFFICIAL = "registry:2"
_NAME = "dask-swarm-registry"
_PORT = 5000  # inside the container, as is the storage
_STORAGE = Path("/var/lib/registry")
# For engines that reach no public registry: the same program, from Debian's packages.
_DOCKERFILE = """
FROM {base}
RUN apt-get update && apt-get install --yes --no-install-recommends docker-registry \\
    && rm -rf /var/lib/apt/lists/*
RUN echo '{config}' > /etc/registry.yml
CMD ["docker-registry", "serve", "/etc/registry.yml"]
"""


def start(engine: "docker.APIClient", host: str, base: str | None) -> None:
    """Run the official registry, or one built on `base`; `LabError` when it does not answer."""
    with step(f"registry on {host}"):
        try:
            engine.start(_NAME)
        except NotFound:
            engine.start(_create(engine, host, base))
        wait_for(
            f"an answer of the registry on {host}", lambda: registry.answers(host), seconds=30
        )


def _create(engine: "docker.APIClient", host: str, base: str | None) -> str:
    image = _build(engine, base) if base else _pull(engine)
    port = int(host.rpartition(":")[2])
    host_config = engine.create_host_config(
        port_bindings={_PORT: ("127.0.0.1", port)},
        restart_policy={"Name": "unless-stopped"},
        binds=[f"{_NAME}:{_STORAGE}"],
    )
    made = engine.create_container(image, name=_NAME, ports=[_PORT], host_config=host_config)
    return str(made["Id"])


def _pull(engine: "docker.APIClient") -> str:
    repository, _, tag = OFFICIAL.partition(":")
    follow(engine.pull(repository, tag, stream=True, decode=True), OFFICIAL)
    return OFFICIAL


def _build(engine: "docker.APIClient", base: str) -> str:
    config = registry_config(_STORAGE, f":{_PORT}")
    dockerfile = io.BytesIO(_DOCKERFILE.format(base=base, config=config).encode())
    progress = engine.build(fileobj=dockerfile, tag=_NAME, network_mode="host", decode=True)
    follow(progress, _NAME)
    return _NAME
