"""What `docker build` is sent: the files of images/ and how this machine reaches a package index.

The index settings serve the build stages only; the final images never hold them.
"""

import hashlib
import io
import os
import re
import ssl
import subprocess
import sys
import tarfile
from pathlib import Path

from lab.shell import LabError

CADDY = "Dockerfile.caddy"
SOURCE = Path(__file__).parent.parent / "images"
_COPIED = (
    "Dockerfile", "*.txt", "examples/*.ipynb", "ipython/startup/*.py", "jupyter/*.py",
    "jupyter/labconfig/*.json",
)  # fmt: skip
_INDEX_SETTINGS = {
    "extra-index-url", "index-url", "proxy", "retries", "timeout", "trusted-host",
}  # fmt: skip


def dask_version() -> str:
    """The Dask version in the lock, which names the images."""
    found = re.search(
        r"^dask==(\S+)", (SOURCE / "dask.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    if not found:
        raise LabError(f"{SOURCE / 'dask.txt'} locks no dask: run `python -m lab lock`")
    return found[1]


def default_base() -> str:
    """The base image that the Dockerfile names."""
    text = (SOURCE / "Dockerfile").read_text(encoding="utf-8")
    found = re.search(r"^ARG BASE_IMAGE=(\S+)", text, re.MULTILINE)
    if not found:
        raise LabError(f"{SOURCE / 'Dockerfile'} gives BASE_IMAGE no default: add one")
    return found[1]


def content_hash(base: str) -> str:
    """Twelve hex digits that change with the files of images/ and the base image's name."""
    digest = hashlib.sha256(base.encode())
    for path in _files():
        digest.update(f"\0{_name(path)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def archive() -> io.BytesIO:
    """The build context as a tar file; equal files give equal bytes."""
    contents = {_name(path): path.read_bytes() for path in _files()} | _index_access()
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    stream.seek(0)
    return stream


def caddy_hash(base: str, version: str) -> str:
    """Twelve hex digits that change with Caddy's Dockerfile, its version and the base image."""
    dockerfile = (SOURCE / CADDY).read_bytes()
    return hashlib.sha256(f"{base}\0{version}\0".encode() + dockerfile).hexdigest()[:12]


def caddy_archive(program: Path) -> io.BytesIO:
    """The build context of Caddy's image, its program included."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, path, mode in (("Dockerfile", SOURCE / CADDY, 0o644), ("caddy", program, 0o755)):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = path.stat().st_size, mode
            with path.open("rb") as file:
                tar.addfile(entry, file)
    stream.seek(0)
    return stream


def proxies() -> dict[str, str]:
    """Proxy variables; Docker knows them and keeps them out of an image's history."""
    return {key: value for key, value in os.environ.items() if key.lower().endswith("_proxy")}


def _files() -> list[Path]:
    return [path for pattern in _COPIED for path in sorted(SOURCE.glob(pattern))]


def _name(path: Path) -> str:
    """Return the path of a file in the build context."""
    return path.relative_to(SOURCE).as_posix()


def _index_access() -> dict[str, bytes]:
    """A pip.conf, and the certificates that this machine trusts, as the build stages want them."""
    settings = _pip_settings()
    told = {key: value for key, value in settings.items() if key in _INDEX_SETTINGS}
    files: dict[str, bytes] = {}
    if bundle := _ca_bundle(settings.get("cert")):
        files["ca.pem"] = bundle.read_bytes()
        told["cert"] = "/build/ca.pem"
    lines = ["[global]", *(f"{key} = {value}" for key, value in told.items()), ""]
    return files | {"pip.conf": "\n".join(lines).encode()}


def _ca_bundle(named: str | None) -> Path | None:
    system = ssl.get_default_verify_paths()  # SSL_CERT_FILE first
    debian = f"{system.capath}/ca-certificates.crt"
    names = (named, os.environ.get("REQUESTS_CA_BUNDLE"), system.cafile, debian)
    found = [Path(name) for name in names if name and Path(name).is_file()]
    return found[0] if found else None


def _pip_settings() -> dict[str, str]:
    """What this machine's pip goes by; empty without a pip."""
    listing = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(listing, capture_output=True, text=True, timeout=60, check=False)
    pattern = r"^(global|install|:env:)\.([a-z-]+)='(.*)'$"
    rows = re.findall(pattern, done.stdout, re.MULTILINE)
    rows.sort(key=lambda row: row[0] == ":env:")  # the environment has the last word
    return {key: value.replace("\\n", " ") for _, key, value in rows}  # lists: one per line
