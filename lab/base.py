"""A base image made from Debian packages, for machines that reach no public image registry."""

import subprocess
from pathlib import Path
from shutil import rmtree

import docker

from lab.shell import run, say, step

SUITE = "bookworm"
TAG = f"dask-swarm-base:{SUITE}"
_PACKAGES = ("bash", "ca-certificates", "python3", "python3-venv", "tini")
_LEFT_OUT = ("./usr/share/doc", "./usr/share/locale", "./usr/share/man", "./var/cache/apt",
             "./var/lib/apt/lists", "./var/log", "./dev", "./proc", "./sys")  # fmt: skip


def ensure_base(engine: "docker.APIClient", folder: Path) -> str:
    """The base image's tag; makes it in `folder`, which is emptied, unless it is there."""
    if not engine.images(TAG):
        with step(f"base image from Debian {SUITE} packages"):
            _bootstrap(folder)
            _import(engine, folder)
            rmtree(folder)
    return TAG


def _bootstrap(root: Path) -> None:
    rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    include = f"--include={','.join(_PACKAGES)}"
    mirror = _mirror()
    say(f"debootstrap from {mirror or 'its default mirror'}")
    command = ["debootstrap", "--variant=minbase", include, SUITE, str(root)]
    run([*command, mirror] if mirror else command, seconds=600)


def _mirror() -> str:
    """Where this machine's own apt finds the suite, or nothing when it runs another one."""
    only = [f"Codename: {SUITE}", "Component: main", "Created-By: Packages"]
    found = run(["apt-get", "indextargets", "--format", "$(REPO_URI)", *only]).split()
    return found[0] if found else ""


def _import(engine: "docker.APIClient", root: Path) -> None:
    left_out = [f"--exclude={path}/*" for path in _LEFT_OUT]
    command = ["tar", "--create", "--one-file-system", *left_out, "--directory", str(root), "."]
    repository, _, tag = TAG.partition(":")
    with subprocess.Popen(command, stdout=subprocess.PIPE) as archive:
        engine.import_image_from_stream(archive.stdout, repository=repository, tag=tag)
