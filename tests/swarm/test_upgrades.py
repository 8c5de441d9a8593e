"""Another release of Dask: refused, awaited, done and undone, under a computation."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import PurePosixPath

import docker
import pytest

from tests.conftest import wait_for
from tests.swarm import derived
from tests.swarm.conftest import RUNNERS, task_ids
from tests.swarm.containers import container_of, run_in

HOME = PurePosixPath("/home/jovyan/work")
# Always has tasks that run or wait, until there is a file `stop`.
PROGRAM = """
import json, pathlib, sys, time
from dask.distributed import Client

home = pathlib.Path(sys.argv[1])

def square(number):
    time.sleep(0.5)
    return number * number

with Client(timeout="20s") as client:
    total, count, pending = 0, 0, []
    while not (home / "stop").exists():
        pending.append(client.submit(square, count))
        count += 1
        if len(pending) > 4:
            total += pending.pop(0).result(timeout=60)
        (home / "count").write_text(str(count))
    total += sum(client.gather(pending))
    (home / "result").write_text(json.dumps([count, total]))
"""


@dataclass(kw_only=True)
class Computation:
    """A program in the notebook's container, with its files in the notebook's home."""

    engine: object
    process: str = ""

    def start(self):
        """Start the program, and wait until it computes."""
        notebook = container_of(self.engine, "dask_notebook")
        run_in(notebook, "sh", "-c", f"mkdir -p {HOME} && rm -f {HOME}/*")
        program = ["python", "-c", PROGRAM, str(HOME)]
        self.process = self.engine.api.exec_create(notebook.id, program)["Id"]
        self.engine.api.exec_start(self.process, detach=True)
        self.continue_()

    def continue_(self):
        """Wait until the program has submitted another task."""
        before = self._count()
        wait_for("another task", lambda: self._count() > before, 30)

    def stop(self):
        """Let the program end."""
        run_in(container_of(self.engine, "dask_notebook"), "touch", f"{HOME}/stop")

    def result(self):
        """Return the number of tasks and the sum of their results, from the notebook's home."""
        return json.loads(
            run_in(container_of(self.engine, "dask_notebook"), "cat", f"{HOME}/result")
        )

    def _count(self):
        assert self.engine.api.exec_inspect(self.process)["Running"], "the computation has ended"
        notebook = container_of(self.engine, "dask_notebook")
        status, text = notebook.exec_run(["cat", f"{HOME}/count"])
        return int(text or 0) if status == 0 else 0


@pytest.fixture(scope="module")
def deployment(deployed):
    """Return a small deployed cluster."""
    with deployed(RUNNERS[-1], workers=2, proof="quick") as deployment:
        yield deployment


@pytest.fixture(scope="module")
def older(lab, images):
    """Return the images of the release before the lab's, by config key."""
    keys = ("image", "notebookImage")
    return {key: derived.older(lab.docker_host, images[key]) for key in keys}


@pytest.fixture(scope="module")
def computation(deployment, lab):
    """Return a computation that runs on the cluster."""
    with closing(docker.DockerClient(lab.docker_host)) as engine:
        computation = Computation(engine=engine)
        computation.start()
        yield computation
        run_in(container_of(engine, "dask_notebook"), "rm", "-rf", str(HOME))


def checks(swarm):
    """Return what the services of a check run: `installed` or `idle`."""
    services = swarm.services.list(filters={"label": "dask.swarm/role=health"})
    specs = [service.attrs["Spec"]["TaskTemplate"]["ContainerSpec"] for service in services]
    return [spec["Args"][-2] for spec in specs]


def certificates(swarm):
    """Return the names of the secrets and configs with certificates; their content is fixed."""
    names = [item.name for kind in (swarm.secrets, swarm.configs) for item in kind.list()]
    return {name for name in names if name.startswith("dask-tls")}


def test_images_of_different_releases_are_refused(deployment, swarm, older, images, computation):
    """With both versions; no task is touched, and the computation continues."""
    before = task_ids(swarm)
    deployment.configure(**deployment.defaults | {"workers": 2, "image": older["image"]})
    printed = deployment.fail("up")
    assert "image: the images have different versions. Nothing was changed." in printed
    assert f"distributed: {derived.OLDER} in image; " in printed
    assert "scheduler and workers are replaced, and running computations are lost" in printed
    assert before == task_ids(swarm)
    assert [] == checks(swarm)
    computation.continue_()


def test_a_deployment_fails_while_the_cluster_computes(deployment, swarm, older, computation):
    """At the deadline for the wait, with the tasks; no task is touched."""
    before = task_ids(swarm)
    deployment.configure(**deployment.defaults | {"workers": 2, "idleDeadline": 3} | older)
    printed = deployment.fail("up")
    assert "waiting until no task runs, at most 3 s, until " in printed
    assert "idleDeadline: not idle after 3 s: " in printed
    assert " tasks run, " in printed
    assert before == task_ids(swarm)
    assert [] == checks(swarm)
    computation.continue_()


def test_an_interrupted_wait_leaves_nothing(deployment, swarm, computation):
    """Before any change of the scheduler: the service that asks it is removed."""
    before = task_ids(swarm)
    config = {"workers": 2, "idleDeadline": 600, "schedulerMemory": "1536MiB"}
    deployment.configure(**deployment.defaults | config)
    deployment.interrupt("up", lambda: "idle" in checks(swarm))
    wait_for("removal of the check", lambda: not checks(swarm), 20)
    assert before == task_ids(swarm)
    computation.continue_()


def test_an_upgrade_waits_for_the_computation(deployment, swarm, older, computation):
    """Its result is right, and in the notebook's home after the upgrade to a real release."""
    before, kept = task_ids(swarm), certificates(swarm)
    proven = deployment.runner.outputs()["health"]["versions"]["distributed"]
    config = {"workers": 2, "proof": "quick", "idleDeadline": 120}
    deployment.configure(**deployment.defaults | config | older)

    def stop_while_the_deployment_waits():
        wait_for("wait for the computation", lambda: "idle" in checks(swarm), 60)
        computation.continue_()
        tasks = task_ids(swarm)
        computation.stop()
        return tasks

    with ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(stop_while_the_deployment_waits)
        printed = deployment.run("up")
        assert before == stopped.result()
    assert f"dask {derived.OLDER}, distributed {derived.OLDER}; the cluster runs " in printed
    assert f"distributed {proven}\n" in printed
    assert f"(distributed {proven}) becomes " in printed
    count, total = computation.result()
    assert sum(number * number for number in range(count)) == total
    versions = deployment.runner.outputs()["health"]["versions"]
    assert {derived.OLDER} == {versions["dask"], versions["distributed"]}
    assert kept == certificates(swarm)
    assert [] == checks(swarm)


def test_the_way_back_keeps_files_and_certificates(deployment, swarm, computation):
    """The former images return as any others; a second deployment changes nothing."""
    kept, result = certificates(swarm), computation.result()
    deployment.configure(**deployment.defaults | {"workers": 2, "proof": "quick"})
    deployment.run("up")
    versions = deployment.runner.outputs()["health"]["versions"]
    assert derived.OLDER not in versions.values()
    assert (kept, result) == (certificates(swarm), computation.result())
    if deployment.runner.name == "pulumi":
        deployment.run("preview", "--expect-no-changes")
    else:
        before = task_ids(swarm)
        deployment.run("up")
        assert before == task_ids(swarm)
