"""The files of images/: their locks, and what `docker build` is sent.

It is also sent how this machine reaches a package index: for the build stages only, the final
images never hold that.
"""

import hashlib
import io
import os
import re
import ssl
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from shutil import which

from lab.shell import LabError, run, step

CADDY = "Dockerfile.caddy"
PROJECT = Path(__file__).parent.parent
SOURCE = PROJECT / "images"
_COPIED = (
    "Dockerfile", "*.txt", "examples/*.ipynb", "ipython/startup/*.py", "jupyter/*.py",
    "jupyter/labconfig/*.json",
)  # fmt: skip
_INDEX_SETTINGS = {
    "extra-index-url", "index-url", "proxy", "retries", "timeout", "trusted-host",
}  # fmt: skip
# In this order: the notebook's lock is held to dask's.
LOCKS = {
    "requirements.txt": "requirements.lock",
    "requirements-dev.txt": "requirements-dev.lock",
    "images/dask.in": "images/dask.txt",
    "images/notebook.in": "images/notebook.txt",
}
_COMPILE = [
    "uv", "pip", "compile", "--quiet", "--upgrade", "--universal", "--python-version", "3.11",
    "--fork-strategy", "fewest", "--generate-hashes", "--no-annotate",
    "--custom-compile-command", "python -m lab lock",
]  # fmt: skip


def renew_locks() -> None:
    """Lock the newest versions that are allowed; `LabError` where uv is missing or fails."""
    if not which("uv"):
        raise LabError("uv: missing. `pip install uv`, then run this again")
    for source, lock in LOCKS.items():
        with step(f"locking {lock}"):
            files = ["--output-file", str(PROJECT / lock), str(PROJECT / source)]
            run([*_COMPILE, *files], seconds=300)


def dask_version() -> str:
    """The Dask version in the lock, which names the images."""
    lock = (SOURCE / "dask.txt").read_text(encoding="utf-8")
    version = re.search(r"^dask==(\S+)", lock, re.MULTILINE)
    if not version:
        raise LabError(f"{SOURCE / 'dask.txt'}: locks no dask. Run `python -m lab lock`")
    return version[1]


def default_base() -> str:
    """The base image that the Dockerfile names."""
    text = (SOURCE / "Dockerfile").read_text(encoding="utf-8")
    base = re.search(r"^ARG BASE_IMAGE=(\S+)", text, re.MULTILINE)
    if not base:
        raise LabError(f"{SOURCE / 'Dockerfile'}: BASE_IMAGE has no default. Add a default")
    return base[1]


def content_hash(base: str) -> str:
    """Twelve hex digits that change with the files of images/ and the base image's name."""
    digest = hashlib.sha256(base.encode())
    for path in _files():
        digest.update(f"\0{_name(path)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def archive() -> io.BytesIO:
    """The build context of the Dask images as a tar file."""
    return _pack({_name(path): path.read_bytes() for path in _files()} | _index_access())


def caddy_hash(base: str, version: str) -> str:
    """Twelve hex digits that change with Caddy's Dockerfile, its version and the base image."""
    dockerfile = (SOURCE / CADDY).read_bytes()
    return hashlib.sha256(f"{base}\0{version}\0".encode() + dockerfile).hexdigest()[:12]


def caddy_archive(program: Path) -> io.BytesIO:
    """The build context of Caddy's image, its program included."""
    files = {"Dockerfile": (SOURCE / CADDY).read_bytes(), "caddy": program.read_bytes()}
    return _pack(files, mode=0o755)


def proxies() -> dict[str, str]:
    """Proxy variables; Docker knows them and keeps them out of an image's history."""
    return {key: value for key, value in os.environ.items() if key.lower().endswith("_proxy")}


def _pack(files: Mapping[str, bytes], mode: int = 0o644) -> io.BytesIO:
    """A tar file. Equal files give equal bytes, whatever the checkout's clock, user and umask."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    stream.seek(0)
    return stream


def _files() -> list[Path]:
    return [path for pattern in _COPIED for path in sorted(SOURCE.glob(pattern))]


def _name(path: Path) -> str:
    """Return the path of a file in the build context."""
    return path.relative_to(SOURCE).as_posix()


def _index_access() -> dict[str, bytes]:
    """A pip.conf, and the certificates that this machine trusts, as the build stages want them."""
    settings = _pip_settings()
    sent = {key: value for key, value in settings.items() if key in _INDEX_SETTINGS}
    files: dict[str, bytes] = {}
    if bundle := _ca_bundle(settings.get("cert")):
        files["ca.pem"] = bundle.read_bytes()
        sent["cert"] = "/build/ca.pem"
    lines = ["[global]", *(f"{key} = {value}" for key, value in sent.items()), ""]
    return files | {"pip.conf": "\n".join(lines).encode()}


def _ca_bundle(named: str | None) -> Path | None:
    system = ssl.get_default_verify_paths()  # SSL_CERT_FILE first
    debian = f"{system.capath}/ca-certificates.crt"
    names = (named, os.environ.get("REQUESTS_CA_BUNDLE"), system.cafile, debian)
    return next((Path(name) for name in names if name and Path(name).is_file()), None)


def _pip_settings() -> dict[str, str]:
    """The settings of this machine's pip; empty without a pip."""
    listing = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(listing, capture_output=True, text=True, timeout=60, check=False)
    pattern = r"^(global|install|:env:)\.([a-z-]+)='(.*)'$"
    rows = re.findall(pattern, done.stdout, re.MULTILINE)
    rows.sort(key=lambda row: row[0] == ":env:")  # the environment has the last word
    return {key: value.replace("\\n", " ") for _, key, value in rows}  # lists: one per line
