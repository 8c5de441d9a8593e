"""Stand-ins for the official images, where those cannot be pulled: made from the lab's own.

They are like the official ones (https://github.com/dask/dask-docker) as far as a deployment meets
it. The entrypoint installs `$EXTRA_PIP_PACKAGES` and then runs the command. Dask and what comes
with it is there, and nothing more: no bytecode, no variables of ours. Scheduler and workers run as
root, the notebook as 1000:100.

They differ in this: pip asks no index. The containers of a lab need not reach one. What is taken
out of our images is packed into wheels instead, which lie in the stand-in and are all that its pip
finds.
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
known = {plain(each.name): each for each in metadata.distributions(path=[site])}

def needed(names):
    found, rest = set(), [plain(name) for name in names]
    while rest:
        name = rest.pop()
        if name in known and name not in found:
            found.add(name)
            for text in known[name].requires or ():
                requirement = Requirement(text)
                if not requirement.marker or requirement.marker.evaluate({"extra": ""}):
                    rest.append(plain(requirement.name))
    return found

def pack(each, folder):
    (info,) = {path.parts[0] for path in each.files if path.parts[0].endswith(".dist-info")}
    tag = re.search("^Tag: (.*)$", each.read_text("WHEEL"), re.MULTILINE)[1]
    with zipfile.ZipFile(folder / f"{info.removesuffix('.dist-info')}-{tag}.whl", "w") as wheel:
        inside = [path for path in each.files if ".." not in path.parts and path.suffix != ".pyc"]
        there = [path for path in inside if path.locate().is_file() and path.name != "RECORD"]
        for path in there:
            wheel.write(path.locate(), str(path))
        record = f"{info}/RECORD"
        wheel.writestr(record, "".join(f"{path},,\\n" for path in [*there, record]))

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
    """Return the references of both stand-ins in the lab's registry, by config key."""
    return {key: _made(lab, key, images[key]) for key in KEPT}


def _made(lab, key, image):
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
