"""The registry of an engine that has none yet, and questions to a registry on this machine.

It runs in a container, on the loopback of the machine whose engine runs it.
"""

import io
import json
from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import docker
from docker.errors import NotFound

from lab.engine import follow
from lab.shell import step, wait_for

OFFICIAL = "registry:2"
_NAME = "dask-swarm-registry"
_PORT = 5000  # inside the container, as is the storage
_STORAGE = Path("/var/lib/registry")
# For engines that reach no public registry: the same program, from Debian's packages.
_DOCKERFILE = """
FROM {base}
RUN apt-get update && apt-get install --yes --no-install-recommends docker-registry \\
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
RUN echo '{config}' > /etc/registry.yml
CMD ["docker-registry", "serve", "/etc/registry.yml"]
"""
_MANIFESTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


def answers(registry: str) -> bool:
    """Whether a registry that asks for no password is at `host:port`."""
    return "Docker-Distribution-Api-Version" in _head(registry, "/v2/")


def digest(registry: str, repository: str, tag: str) -> str | None:
    """The digest that a tag stands for, if the registry has it."""
    return _head(registry, f"/v2/{repository}/manifests/{tag}").get("Docker-Content-Digest")


def start(engine: "docker.APIClient", host: str, base: str | None) -> None:
    """Run the official registry, or build one on `base`; `LabError` when it does not answer."""
    with step(f"registry on {host}"):
        try:
            engine.start(_NAME)
        except NotFound:
            engine.start(_create(engine, host, base))
        wait_for(f"an answer of the registry on {host}", lambda: answers(host), seconds=30)


def render_config(storage: Path, address: str) -> str:
    """The settings of a registry that keeps images in `storage` and asks for no password."""
    config = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(storage)}},
        "http": {"addr": address},
    }
    return json.dumps(config)  # JSON is YAML


def _create(engine: "docker.APIClient", host: str, base: str | None) -> str:
    image = _build(engine, base) if base else _pull(engine)
    port = int(host.rpartition(":")[2])
    host_config = engine.create_host_config(
        port_bindings={_PORT: ("127.0.0.1", port)},
        restart_policy={"Name": "unless-stopped"},
        binds=[f"{_NAME}:{_STORAGE}"],
    )
    container = engine.create_container(image, name=_NAME, ports=[_PORT], host_config=host_config)
    return str(container["Id"])


def _pull(engine: "docker.APIClient") -> str:
    repository, _, tag = OFFICIAL.partition(":")
    follow(engine.pull(repository, tag, stream=True, decode=True), OFFICIAL)
    return OFFICIAL


def _build(engine: "docker.APIClient", base: str) -> str:
    config = render_config(_STORAGE, f":{_PORT}")
    dockerfile = io.BytesIO(_DOCKERFILE.format(base=base, config=config).encode())
    progress = engine.build(fileobj=dockerfile, tag=_NAME, network_mode="host", decode=True)
    follow(progress, _NAME)
    return _NAME


def _head(registry: str, path: str) -> Mapping[str, str]:
    """The headers of a good answer within 10 s, else none; no proxy is asked."""
    connection = HTTPConnection(registry, timeout=10)
    try:
        connection.request("HEAD", path, headers={"Accept": ", ".join(_MANIFESTS)})
        answer = connection.getresponse()
        return dict(answer.getheaders()) if answer.status == HTTPStatus.OK else {}
    except (OSError, HTTPException):
        return {}
    finally:
        connection.close()
