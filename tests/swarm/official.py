"""Substitutes for the official images, made from the lab's images without a registry.

A deployment cannot tell them from the official images (https://github.com/dask/dask-docker).
The entrypoint installs `$EXTRA_PIP_PACKAGES` and then runs the command. The images contain Dask
and its dependencies, but no bytecode and none of our variables. Scheduler and workers run as root,
the notebook as 1000:100.

One thing differs: pip uses no index, because the lab's containers may not reach one. Wheels in the
image replace it: they hold the packages that are removed from our images.
"""

import hashlib
import json
from contextlib import closing

import docker

from lab import registry

KEPT = {
    "image": ["bokeh", "dask", "distributed", "lz4", "numpy", "pandas", "pip", "pyarrow"],
    "notebookImage": ["dask-labextension", "ipywidgets", "jupyterlab"],
}
KEPT["notebookImage"] += KEPT["image"]
USERS = {"image": "0:0", "notebookImage": "1000:100"}
BUILD_SECONDS = 600
PREPARE = """#!/bin/bash
set -ex -o pipefail
if [ "$EXTRA_PIP_PACKAGES" ]; then
    /opt/conda/bin/pip install $EXTRA_PIP_PACKAGES
fi
exec "$@"
"""
PIP_CONF = """[global]
no-index = true
find-links = /opt/wheels
"""
# Run as root in a container of our image.
STRIP = """
import importlib.metadata as metadata, pathlib, re, subprocess, sys, sysconfig, zipfile
from packaging.requirements import Requirement

def plain(name):
    return re.sub("[-_.]+", "-", name).lower()

site = sysconfig.get_path("purelib")
known = {plain(package.name): package for package in metadata.distributions(path=[site])}

def needed(names):
    names_needed, rest = set(), [plain(name) for name in names]
    while rest:
        name = rest.pop()
        if name in known and name not in names_needed:
            names_needed.add(name)
            for text in known[name].requires or ():
                requirement = Requirement(text)
                if not requirement.marker or requirement.marker.evaluate({"extra": ""}):
                    rest.append(plain(requirement.name))
    return names_needed

def pack(package, folder):
    (info,) = {path.parts[0] for path in package.files if path.parts[0].endswith(".dist-info")}
    tag = re.search("^Tag: (.*)$", package.read_text("WHEEL"), re.MULTILINE)[1]
    with zipfile.ZipFile(folder / f"{info.removesuffix('.dist-info')}-{tag}.whl", "w") as wheel:
        paths = [path for path in package.files if ".." not in path.parts]
        inside = [path for path in paths if path.suffix != ".pyc"]
        files = [path for path in inside if path.locate().is_file() and path.name != "RECORD"]
        for path in files:
            wheel.write(path.locate(), str(path))
        record = f"{info}/RECORD"
        wheel.writestr(record, "".join(f"{path},,\\n" for path in [*files, record]))

wheels = pathlib.Path("/opt/wheels")
wheels.mkdir()
others = sorted(known.keys() - needed(sys.argv[1].split()))
for name in others:
    pack(known[name], wheels)
subprocess.check_call([sys.executable, "-m", "pip", "uninstall", "--quiet", "--yes", *others])
"""
SCRIPT = """
set -e
python -c "$STRIP" "$KEPT"
rm /opt/dask/pip.conf /opt/dask/constraints.txt
rm -rf /opt/examples /etc/jupyter /home/jovyan/examples
sed -i 's/^\\(include-system-site-packages\\) = true$/\\1 = false/' /opt/dask/pyvenv.cfg
find /opt/dask /usr/lib/python3* /usr/local/lib -name '*.pyc' -delete
chown -R "$OWNER" /opt/dask
ln -s /opt/dask /opt/conda
printf %s "$PIP_CONF" > /etc/pip.conf
printf %s "$PREPARE" > /usr/bin/prepare.sh
chmod 755 /usr/bin/prepare.sh
"""


def official(lab, images):
    """Return the references of both substitutes in the lab's registry, by config key."""
    return {key: _ensure(lab, key, images[key]) for key in KEPT}


def _ensure(lab, key, image):
    repository = image.partition("@")[0].rpartition(":")[0]
    host, _, name = repository.partition("/")
    recipe = json.dumps([image, KEPT[key], USERS[key], PREPARE, PIP_CONF, STRIP, SCRIPT])
    tag = f"official-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    digest = registry.digest(host, name, tag)
    if not digest:
        with closing(docker.DockerClient(lab.docker_host, timeout=BUILD_SECONDS)) as engine:
            _make(engine, key, image, f"{repository}:{tag}")
        digest = registry.digest(host, name, tag)
    return f"{repository}:{tag}@{digest}"


def _make(engine, key, image, reference):
    variables = {"STRIP": STRIP, "KEPT": " ".join(KEPT[key]), "OWNER": USERS[key],
                 "PIP_CONF": PIP_CONF, "PREPARE": PREPARE}  # fmt: skip
    container = engine.containers.run(
        image, ["bash", "-c", SCRIPT], user="0", environment=variables, detach=True
    )
    try:
        assert 0 == container.wait(timeout=BUILD_SECONDS)["StatusCode"], container.logs().decode()
        # Not a commit: that would keep the layers and the variables of our image.
        repository, _, tag = reference.rpartition(":")
        engine.api.import_image_from_stream(
            container.export(), repository, tag, changes=_settings(key)
        )
    finally:
        container.remove(force=True)
    for message in engine.images.push(repository, tag, stream=True, decode=True):
        assert "error" not in message, message


def _settings(key):
    settings = [
        "ENV PATH=/opt/conda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        'ENTRYPOINT ["tini", "-g", "--", "/usr/bin/prepare.sh"]',
        f"USER {USERS[key]}",
    ]
    if key == "notebookImage":
        settings += ["ENV HOME=/home/jovyan", "WORKDIR /home/jovyan"]
    return settings
