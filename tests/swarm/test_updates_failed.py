"""Updates that cannot succeed: the old tasks go on, `up` says why, and a good value recovers."""

import json
import time
from contextlib import closing

import docker
import pytest

from tests.swarm.conftest import RUNNERS, declared, one_shots, wait_for, wait_until_gone
from tests.swarm.derived import NOWHERE, that_dies, that_never_works, with_other_version

DEADLINE = 30
# Computes on the cluster, again and again, as work does that knows nothing of an update.
WITNESS = """
import json, pathlib, time
from dask.distributed import Client
told, draft, stop = [pathlib.Path("/tmp/" + name) for name in ("told", "draft", "stop")]
for path in (told, stop):
    path.unlink(missing_ok=True)
with Client("scheduler:8786", timeout="20s") as client:
    scheduler, done = client.scheduler_info()["id"], 0
    while not stop.exists():
        assert 42 == client.submit(int, "42", pure=False).result(timeout=20)
        done += 1
        draft.write_text(json.dumps({"scheduler": scheduler, "done": done}))
        draft.replace(told)
        time.sleep(0.2)
"""


@pytest.fixture(scope="module", params=RUNNERS)
def cluster(request, new_deployment, defaults_for_lab, swarm):
    """Return a small deployed cluster, which is destroyed afterwards."""
    assert not wait_until_gone(swarm)
    deployment = new_deployment(request.param)
    config = defaults_for_lab | {"workers": 2, "healthDeadline": DEADLINE}
    deployment.configure(**config)
    try:
        deployment.run("up")
        yield deployment, config
    finally:
        deployment.run("destroy")


def running(swarm):
    """Return the ids of the running tasks by service."""
    return {
        service.name: {
            task["ID"]
            for task in service.tasks(filters={"desired-state": "running"})
            if task["Status"]["State"] == "running"
        }
        for service in declared(swarm)
    }


@pytest.fixture
def witness(cluster, lab):
    """Start a computation on the cluster; return what waits until it has got further."""
    with closing(docker.DockerClient(lab.docker_host)) as engine:
        wanted = {"label": "com.docker.swarm.service.name=dask_notebook"}
        (notebook,) = engine.containers.list(filters=wanted)
        program = ["python", "-c", WITNESS]
        process = engine.api.exec_create(notebook.id, program)["Id"]
        output = engine.api.exec_start(process, stream=True)
        yield lambda: further(engine, notebook, process, output)
        notebook.exec_run(["touch", "/tmp/stop"])


def further(engine, notebook, process, output):
    """Return the scheduler's id, once the computation has got further than it is now."""
    deadline, before = time.monotonic() + 30, None
    while True:
        assert engine.api.exec_inspect(process)["Running"], b"".join(output).decode()
        status, told = notebook.exec_run(["cat", "/tmp/told"])
        if status == 0:
            now = json.loads(told)
            before = before or now["done"]
            if now["done"] > before:
                return now["scheduler"]
        assert time.monotonic() < deadline, "the computation got no further within 30 s"
        time.sleep(0.2)


def refused(deployment, swarm, **config):
    """Declare an update, which must fail in time and leave no probe, and return the message."""
    deployment.configure(**config)
    start = time.monotonic()
    printed = deployment.fail("up")
    assert time.monotonic() - start < DEADLINE + 20
    assert not one_shots(swarm)
    return printed


def test_a_program_that_dies_leaves_the_old_ones_at_work(cluster, swarm, lab, witness):
    """The message has its error and its last words, and the computation never stops."""
    deployment, config = cluster
    before, scheduler = running(swarm), witness()
    bad = config | {"image": that_dies(lab.docker_host, config["image"])}
    printed = refused(deployment, swarm, **bad)
    assert "non-zero exit (3)" in printed
    assert "no stomach for this" in printed
    assert "as before this update" in printed
    assert scheduler == witness()
    after = running(swarm)
    assert before["dask_scheduler"] == after["dask_scheduler"]
    assert len(after["dask_worker"]) == 2
    assert after["dask_worker"] & before["dask_worker"]


def test_an_image_that_no_node_can_get_leaves_the_old_tasks_at_work(cluster, swarm, witness):
    """The message names the image."""
    deployment, config = cluster
    if deployment.runner.name == "rehearsal":
        pytest.skip("to the Swarm it is like a program that dies: once is enough")
    scheduler, image = witness(), f"{config['image']}@{NOWHERE}"
    printed = refused(deployment, swarm, **config | {"image": image})
    assert "image not found" in printed
    assert image in printed
    assert scheduler == witness()


def test_a_program_that_never_answers_is_taken_back(cluster, swarm, lab, witness):
    """The Swarm waits for its health check, the deployment for as long as it may take."""
    deployment, config = cluster
    scheduler = witness()
    bad = {"image": that_never_works(lab.docker_host, config["image"]), "healthDeadline": 20}
    printed = refused(deployment, swarm, **config | bad)
    assert "not proven within 15 s" in printed
    assert "rolled back: " in printed
    assert scheduler == witness()
    wait_for(lambda: len(running(swarm)["dask_worker"]) == 2)


def test_mixed_versions_are_taken_back(cluster, swarm, lab):
    """Every task works, and yet what was there before is there again."""
    deployment, config = cluster
    image = with_other_version(lab.docker_host, config["notebookImage"])
    printed = refused(deployment, swarm, **config | {"notebookImage": image})
    assert "expected one version of distributed everywhere" in printed
    assert "rolled back: dask_notebook as before this update" in printed


def test_the_same_bad_value_fails_again(cluster, swarm):
    """Nothing has changed since it was declared; that does not make it good."""
    deployment, _ = cluster
    printed = deployment.fail("up")
    assert "expected one version of distributed everywhere" in printed
    assert "rolled back: dask_notebook as before this update" in printed


def test_a_good_value_recovers(cluster, swarm):
    """Without any work by hand the next deployment is proven."""
    deployment, config = cluster
    deployment.configure(**config | {"notebookMemory": "1GiB"})
    deployment.run("up")
    assert 2 == deployment.runner.outputs()["health"]["workers"]
