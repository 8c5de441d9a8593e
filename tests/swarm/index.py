"""An index of an image of the lab and an invented image for arm64, as buildx pushes it."""

import hashlib
import json

import requests

TYPE = "application/vnd.docker.distribution.{}.v2+json"
MANIFEST, INDEX = TYPE.format("manifest"), TYPE.format("manifest.list")
AMD, ARM = {"os": "linux", "architecture": "amd64"}, {"os": "linux", "architecture": "arm64"}
ATTESTATION = {"os": "unknown", "architecture": "unknown"}


def push(image):
    """Push it beside `image`, and return its reference.

    The invented image has the layers of the real image, so it would run on this machine only.
    """
    host, _, name = image.partition("/")
    repository, _, tag = name.partition(":")
    registry = Repository(f"http://{host}/v2/{repository}")
    real = registry.get(f"manifests/{tag}")
    manifest = json.loads(real)
    config = json.loads(registry.get(f"blobs/{manifest['config']['digest']}"))
    invented = registry.put_blob(json.dumps(config | ARM | {"variant": "v8"}).encode())
    other = json.dumps(manifest | {"config": manifest["config"] | invented}).encode()
    registry.put_manifest(_digest(other), MANIFEST, other)
    entries = [(real, AMD), (other, ARM | {"variant": "v8"}), (other, ATTESTATION)]
    manifests = [
        {"mediaType": MANIFEST, **_described(content), "platform": platform}
        for content, platform in entries
    ]
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
    registry.put_manifest(f"{tag}-both", INDEX, json.dumps(index).encode())
    return f"{host}/{repository}:{tag}-both"


class Repository:
    """A repository of a registry without a password."""

    def __init__(self, address):
        self._address, self._session = address, requests.Session()
        self._session.trust_env = False  # no proxy

    def get(self, path):
        """Return a blob or a manifest."""
        return self._call("GET", f"{self._address}/{path}", headers={"Accept": MANIFEST}).content

    def put_blob(self, content):
        """Upload a blob, and return how a manifest refers to it."""
        described = _described(content)
        place = self._call("POST", f"{self._address}/blobs/uploads/").headers["Location"]
        self._call("PUT", place, params={"digest": described["digest"]}, data=content)
        return described

    def put_manifest(self, reference, kind, content):
        """Upload a manifest under a tag or its digest."""
        headers = {"Content-Type": kind}
        address = f"{self._address}/manifests/{reference}"
        self._call("PUT", address, headers=headers, data=content)

    def _call(self, method, address, **options):
        answer = self._session.request(method, address, timeout=30, **options)
        answer.raise_for_status()
        return answer


def _described(content):
    return {"digest": _digest(content), "size": len(content)}


def _digest(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
