"""A deployment with images like the official images, which install packages at every start."""

import json

import pytest

from tests.swarm import package_index
from tests.swarm.conftest import RUNNERS
from tests.swarm.containers import notebook_container, run_in
from tests.swarm.official import official

# Prints the version of s3fs in each part of the cluster, and the type of an unpickled object.
REPORT = """
import json
from dask.distributed import Client
import s3fs

def version(*rest):
    import s3fs
    return s3fs.__version__

with Client(timeout="60s") as client:
    client.wait_for_workers(4, timeout=60)
    store = s3fs.S3FileSystem(anon=True)
    print(json.dumps({
        "notebook": version(),
        "scheduler": client.run_on_scheduler(version),
        "workers": sorted(client.run(version).values()),
        "unpickled": [client.run_on_scheduler(lambda store: type(store).__name__, store),
                      client.submit(lambda store: type(store).__name__, store).result()],
    }))
"""


@pytest.fixture(scope="module")
def substitutes(lab, images):
    """Return the references of both images."""
    return official(lab, images)


@pytest.fixture(scope="module")
def index(lab, substitutes):
    """Run a package index behind a proxy; yield pip's options and the paths asked for."""
    wheels = package_index.wheels_of(lab.docker_host, substitutes["image"])
    # Only the engine has encrypted settings.
    login = package_index.LOGIN if RUNNERS[-1] == "pulumi" else ""
    with package_index.running(lab.gateway, wheels, login) as running:
        yield running


@pytest.fixture(scope="module")
def cluster(deployed, substitutes, index):
    """Return a cluster of such images that installs s3fs from that index."""
    options = {"pipConfig": json.dumps(index[0])}
    secrets, plain = (options, {}) if RUNNERS[-1] == "pulumi" else ({}, options)
    config = {"extraPipPackages": ["s3fs"], "prefect": "none", "healthDeadline": 300} | plain
    with deployed(RUNNERS[-1], secrets=secrets, **substitutes, **config) as deployment:
        yield deployment


def test_the_deployment_is_proven(cluster):
    """Four workers join, although they install packages at their start."""
    assert 4 == cluster.runner.outputs()["health"]["workers"]


def test_the_packages_come_from_the_index(cluster, index, swarm):
    """Through the proxy, for six services' tasks and the probe; no service shows the login."""
    assert 7 <= sum(path.startswith("/files/s3fs-") for path in index[1])
    shown = json.dumps([service.attrs for service in swarm.services.list()])
    assert package_index.LOGIN not in shown


def test_all_parts_have_the_packages(cluster, lab):
    """Scheduler, workers and notebook import them, and unpickle objects that need them."""
    with notebook_container(lab) as notebook:
        report = json.loads(run_in(notebook, "python", "-c", REPORT).splitlines()[-1])
    version = report["notebook"]
    assert (version, [version] * 4) == (report["scheduler"], report["workers"])
    assert ["S3FileSystem", "S3FileSystem"] == report["unpickled"]


@pytest.mark.parametrize(("key", "user"), [("image", "0 0"), ("notebookImage", "1000 100")])
def test_they_behave_like_the_official_images(swarm, substitutes, key, user):
    """Without `EXTRA_PIP_PACKAGES` nothing is installed, and each image has its usual user."""
    program = 'echo $(id -u) $(id -g); python -c "import s3fs" || echo missing'
    output = swarm.containers.run(substitutes[key], ["bash", "-c", program], remove=True)
    assert [user, "missing"] == output.decode().splitlines()
