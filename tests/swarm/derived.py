"""Images with one difference each, made from the lab's images without a build."""

import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import docker

from lab import registry
from tests.swarm import wheels

# The release before that of the lab's images; both need the same packages.
OLDER = "2026.7.1"
INSTALL = f"""
import os, shutil, subprocess, sys
pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *{wheels.OPTIONS.split()}]
wanted = ["dask=={OLDER}", "distributed=={OLDER}"]
subprocess.check_call([*pip, *wanted], env=os.environ | {{"PIP_CONFIG_FILE": os.devnull}})
shutil.rmtree("{wheels.FOLDER}")
"""

FAKE = """
import importlib.metadata
(metadata,) = [f for f in importlib.metadata.files("distributed") if f.name == "METADATA"]
path = metadata.locate()
path.write_text(path.read_text().replace("\\nVersion: ", "\\nVersion: 9999.1+", 1))
"""
# The package's metadata, which the upgrade check reads, stay as they are.
PRETEND = """
import os
from distributed import versions
os.remove(versions.__cached__)  # Python does not compare it with the source
with open(versions.__file__, "a") as file:
    file.write('''
_installed = get_package_info
def get_package_info(pkgs):
    known = _installed(pkgs)
    return known | {"distributed": "9999.1+" + known["distributed"]}
''')
"""
# The probes run Python in these images; the services do not.
UNLESS_PROBE = '[ "$1" = python ] && exec "$@"; '
NOWHERE = "sha256:" + "0" * 64


def with_other_version(docker_host, image):
    """Return an image in the registry that differs from `image` in distributed's version alone."""
    return _derived(docker_host, image, "other-version", {}, FAKE)


def that_reports_another_version(docker_host, image):
    """Return an image in the registry whose distributed runs as another version than installed."""
    return _derived(docker_host, image, "reports-other-version", {}, PRETEND)


def older(docker_host, image):
    """Return an image in the registry with the real release `OLDER` of Dask.

    The tag names what it is made from, so that several modules make it once.
    """
    name, _, version = image.partition("@")[0].rpartition(":")
    host, _, repository = name.partition("/")
    tag = f"{OLDER}-{registry.digest(host, repository, version)[-12:]}"
    if existing := registry.digest(host, repository, tag):
        return f"{name}:{tag}@{existing}"
    with tempfile.TemporaryDirectory() as folder:
        names = [f"{package}=={OLDER}" for package in ("dask", "distributed")]
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
        subprocess.run([*pip, *names], check=True, timeout=120)
        files = [(path.name, path.read_bytes()) for path in sorted(Path(folder).iterdir())]
    return _derived(docker_host, image, tag, {}, INSTALL, files)


def rebuilt(docker_host, image):
    """Return an image in the registry that differs from `image` in its digest alone."""
    return _derived(docker_host, image, "rebuilt", {"Labels": {"rebuilt": "yes"}})


def that_dies(docker_host, image):
    """Return an image in the registry whose services print an error and end at once."""
    program = f"{UNLESS_PROBE}echo no stomach for this >&2; exit 3"
    return _derived(docker_host, image, "dies", {"Entrypoint": ["sh", "-c", program, "sh"]})


def that_never_works(docker_host, image):
    """Return an image in the registry whose services run but never answer."""
    program = f"{UNLESS_PROBE}echo asleep; exec sleep 600"
    return _derived(docker_host, image, "sleeps", {"Entrypoint": ["sh", "-c", program, "sh"]})


def _derived(docker_host, image, tag, conf, program="pass", files=()):
    repository = image.partition("@")[0].rpartition(":")[0]
    with closing(docker.DockerClient(docker_host)) as engine:
        container = engine.containers.create(image, ["python", "-c", program], user="0")
        try:
            wheels.copy_into(container, *files)
            container.start()
            assert 0 == container.wait(timeout=60)["StatusCode"], container.logs().decode()
            container.commit(repository, tag, conf={"User": "1000:1000"} | conf)
        finally:
            container.remove(force=True)
        engine.images.push(repository, tag)
        digest = engine.images.get_registry_data(f"{repository}:{tag}").id
    return f"{repository}:{tag}@{digest}"
