"""Questions to a registry on this machine, whatever proxy the environment names."""

from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

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


def _head(registry: str, path: str) -> Mapping[str, str]:
    """The headers of an answer; none unless it came within 10 s and is good."""
    connection = HTTPConnection(registry, timeout=10)
    try:
        connection.request("HEAD", path, headers={"Accept": ", ".join(_MANIFESTS)})
        answer = connection.getresponse()
        return dict(answer.getheaders()) if answer.status == HTTPStatus.OK else {}
    except (OSError, HTTPException):
        return {}
    finally:
        connection.close()
