"""A deployment with images as the official ones are: packages are installed at every start."""

import json

import pytest

from tests.swarm.conftest import RUNNERS
from tests.swarm.notebooks import deployed_notebook
from tests.swarm.official import official

# Answers which version of s3fs each part of the cluster has, and what came of an object of it.
FOUND = """
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
        "unpickled": [client.run_on_scheduler(lambda it: type(it).__name__, store),
                      client.submit(lambda it: type(it).__name__, store).result()],
    }))
"""


@pytest.fixture(scope="module")
def stand_ins(lab, images):
    """Return the references of both images."""
    return official(lab, images)


@pytest.fixture(scope="module")
def cluster(deployed, stand_ins):
    """Return a cluster of official images that installs s3fs."""
    config = {"extraPipPackages": ["s3fs"], "prefect": "none", "healthDeadline": 300}
    with deployed(RUNNERS[-1], **stand_ins, **config) as deployment:
        yield deployment


def test_the_deployment_is_proven(cluster):
    """Four workers are there in spite of the installation at their start."""
    assert 4 == cluster.runner.outputs()["health"]["workers"]


def test_the_packages_are_everywhere(cluster, lab):
    """Scheduler, workers and notebook import them, and take objects that need them."""
    with deployed_notebook(lab) as notebook:
        status, output = notebook.exec_run(["python", "-c", FOUND])
    assert 0 == status, output.decode()
    found = json.loads(output.decode().splitlines()[-1])
    version = found["notebook"]
    assert (version, [version] * 4) == (found["scheduler"], found["workers"])
    assert ["S3FileSystem", "S3FileSystem"] == found["unpickled"]


@pytest.mark.parametrize(("key", "user"), [("image", "0 0"), ("notebookImage", "1000 100")])
def test_they_are_the_official_ones_in_what_counts(swarm, stand_ins, key, user):
    """Without the list of packages nothing is installed, and each has its usual user."""
    program = 'echo $(id -u) $(id -g); python -c "import s3fs" || echo missing'
    output = swarm.containers.run(stand_ins[key], ["bash", "-c", program], remove=True)
    assert [user, "missing"] == output.decode().splitlines()
