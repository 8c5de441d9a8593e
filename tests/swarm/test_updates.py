"""Real updates: which services they restart, and the rollback of a failed update."""

import json
import re
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass

import docker
import pytest

from health.timing import TIMING
from tests.changes import CHANGES, NEWER, REBUILT
from tests.conftest import wait_for
from tests.swarm import derived
from tests.swarm.conftest import RUNNERS, cluster_services, probe_services, service_of
from tests.swarm.containers import container_of, notebook_container, run_in

DEADLINE = 150
# Computes on the cluster without a pause, like work that knows nothing of an update.
PROGRAM = """
import json, pathlib, sys, time
from dask.distributed import Client
report = pathlib.Path(sys.argv[1])
draft, done = report.with_suffix(".draft"), 0
with Client("scheduler:8786", timeout="20s") as client:
    while True:
        assert 42 == client.submit(int, "42", pure=False).result(timeout=20)
        done += 1
        draft.write_text(json.dumps({"scheduler": client.scheduler_info()["id"], "done": done}))
        draft.replace(report)
        time.sleep(0.2)
"""
# Keeps every worker busy until the event. The dataset keeps the tasks without their client.
TRAIN = """
import json, os, time
from dask.distributed import Client, Event

def train():
    assert Event("enough").wait(timeout=600)
    return os.getpid()

with Client() as client:
    workers = list(client.scheduler_info(n_workers=-1)["workers"])
    tasks = {worker: client.submit(train, workers=[worker], pure=False) for worker in workers}
    client.publish_dataset(training=tasks)
    running = lambda dask_worker: len(dask_worker.state.executing)
    while not all(client.run(running).values()):
        time.sleep(0.1)
    print(json.dumps(client.run(os.getpid)))
"""
FINISH = """
import json
from dask.distributed import Client, Event

with Client() as client:
    tasks = client.get_dataset("training")
    assert not any(task.done() for task in tasks.values())
    Event("enough").set()
    print(json.dumps(client.gather(tasks)))
    client.unpublish_dataset("training")
"""
BUSY = re.compile(r"(?P<task>dask_worker\.\d) on lab-data-\d .* runs train for \d+ s")
ROWS = [change for change in CHANGES if not change.base]


@dataclass(kw_only=True)
class Cluster:
    """A deployed stack and its current config; a change stays until the next change."""

    deployment: object
    config: dict

    def change(self, **config):
        """Deploy with some of the config changed."""
        self.deployment.configure(**self.config | config)
        self.deployment.run("up")
        self.config |= config

    def skip_in_rehearsal(self):
        """Skip a test of the rehearsal that its other tests cover."""
        if self.deployment.runner.name == "rehearsal":
            pytest.skip("tested through the engine")

    def refuse(self, **config):
        """Deploy a config that must fail in time, and return the output."""
        changed = self.config | config
        self.deployment.configure(**changed)
        start = time.monotonic()
        printed = self.deployment.fail("up")
        assert time.monotonic() - start < changed["healthDeadline"] + 20
        return printed


@pytest.fixture(scope="module", params=RUNNERS)
def cluster(request, deployed, control_host):
    """Return a small deployed cluster, which is destroyed afterwards."""
    config = {"workers": 2, "healthDeadline": DEADLINE}
    with deployed(request.param, control_host, **config) as deployment:
        yield Cluster(deployment=deployment, config=deployment.defaults | config)


@dataclass(kw_only=True)
class BackgroundJob:
    """A computation in the notebook's container, restarted after its end if a test asks for it."""

    engine: object
    process: str = ""
    container: str = ""
    file: str = ""

    def find_scheduler(self, *, restart=False):
        """Wait until the job has made progress, and return the id of its scheduler."""
        notebook = container_of(self.engine, "dask_notebook")
        if restart and not (notebook.id == self.container and self._runs()):
            self._start(notebook)
        before = self._report(notebook).get("done", 0)
        wait_for("progress", lambda: self._report(notebook).get("done", 0) > before, 30)
        return self._report(notebook)["scheduler"]

    def _start(self, notebook):
        self.file = f"/tmp/{time.monotonic_ns()}.report"
        program = ["python", "-c", PROGRAM, self.file]
        self.process = self.engine.api.exec_create(notebook.id, program)["Id"]
        self.engine.api.exec_start(self.process, detach=True)
        self.container = notebook.id

    def _runs(self):
        return self.engine.api.exec_inspect(self.process)["Running"]

    def _report(self, notebook):
        assert self._runs(), "the computation has ended"
        status, text = notebook.exec_run(["cat", self.file])
        return json.loads(text) if status == 0 else {}


@pytest.fixture(scope="module")
def job(cluster, lab):
    """Return a computation on the cluster."""
    with closing(docker.DockerClient(lab.docker_host)) as engine:
        yield BackgroundJob(engine=engine)


def real_values(lab, cluster, tried):
    """Return the config of a row, with real images and encrypted secrets."""
    makers = {REBUILT: derived.rebuilt, NEWER: derived.with_other_version}
    real = dict(tried)
    for key in tried.keys() & {"image", "notebookImage"}:
        real[key] = makers[tried[key]](lab.docker_host, cluster.config[key])
    for key in tried.keys() & {"notebookPassword", "s3SecretKey"}:
        real[key] = cluster.deployment.encrypted(key, tried[key])
    return real


def running_tasks(swarm):
    """Return the ids of the running tasks by service."""
    return {
        service.name: {
            task["ID"]
            for task in service.tasks(filters={"desired-state": "running"})
            if task["Status"]["State"] == "running"
        }
        for service in cluster_services(swarm)
    }


def replaced_services(before, after):
    """Return the services with replaced tasks; a service that was only scaled does not count."""
    return {n for n in before if before[n] - after[n] and after[n] - before[n]}


def test_a_new_token_restarts_only_the_notebook(cluster, swarm):
    """The engine replaces the token; no other service restarts."""
    cluster.skip_in_rehearsal()
    before = running_tasks(swarm)
    cluster.deployment.run("up", "--replace", "**RandomPassword::dask-notebook-token")
    assert {"dask_notebook"} == replaced_services(before, running_tasks(swarm))


@pytest.mark.parametrize("change", ROWS, ids=lambda change: change.what)
def test_a_change_restarts_only_what_it_must(cluster, change, swarm, lab, job):
    """The table of changes is right about restarted services and running computations."""
    if not change.rehearsed:
        cluster.skip_in_rehearsal()
    tried = real_values(lab, cluster, change.tried)
    scheduler, before = job.find_scheduler(restart=True), running_tasks(swarm)
    cluster.change(**tried)
    after = running_tasks(swarm)
    replaced = replaced_services(before, after)
    assert set(change.restarts) == replaced
    if not replaced - {"dask_worker"}:
        assert scheduler == job.find_scheduler()


@contextmanager
def extra_labels(swarm, **labels):
    """Add labels to every node, and remove them again."""
    own = {node.id: node.attrs["Spec"] for node in swarm.nodes.list()}
    for node in swarm.nodes.list():
        node.update(own[node.id] | {"Labels": own[node.id]["Labels"] | labels})
    try:
        yield
    finally:
        for node in swarm.nodes.list():
            node.update(own[node.id])


def test_another_label_of_a_node_restarts_nothing(cluster, swarm, job):
    """Neither the label nor the next deployment restarts a task."""
    scheduler, before = job.find_scheduler(restart=True), running_tasks(swarm)
    with extra_labels(swarm, rack="1"):
        cluster.change()
        assert before == running_tasks(swarm)
        assert scheduler == job.find_scheduler()


def test_an_update_does_not_wait_for_tasks_of_users(cluster, lab):
    """Every worker runs a long task, which goes on; the proof names workers and tasks."""
    with notebook_container(lab) as container:
        processes = json.loads(run_in(container, "python", "-c", TRAIN))
    cluster.change(notebookMemory="1200MiB")
    health = cluster.deployment.runner.outputs()["health"]
    with notebook_container(lab) as container:
        assert processes == json.loads(run_in(container, "python", "-c", FINISH))
    assert (2, 0, 0) == (health["workers"], health["tasks"], health["transfers"])
    for messages in (health["busy"], health["cell"]["busy"]):
        found = [BUSY.fullmatch(message) for message in messages]
        assert ["dask_worker.1", "dask_worker.2"] == sorted(match["task"] for match in found)


def test_old_tasks_stay_when_the_new_program_dies(cluster, swarm, lab, job):
    """The message has its exit code and last output, and the computation continues."""
    scheduler, before = job.find_scheduler(restart=True), running_tasks(swarm)
    printed = cluster.refuse(image=derived.that_dies(lab.docker_host, cluster.config["image"]))
    assert "non-zero exit (3)" in printed
    assert "no stomach for this" in printed
    assert "as before this update" in printed
    assert scheduler == job.find_scheduler()
    after = running_tasks(swarm)
    assert before["dask_scheduler"] == after["dask_scheduler"]
    assert before["dask_worker"] & after["dask_worker"]
    assert not probe_services(swarm)


def test_an_image_that_does_not_exist_is_refused(cluster, swarm, job):
    """The message names it, and no task is touched."""
    scheduler = job.find_scheduler(restart=True)
    image = f"{cluster.config['image'].partition('@')[0]}@{derived.NOWHERE}"
    before = running_tasks(swarm)
    assert image in cluster.refuse(image=image)
    assert before == running_tasks(swarm)
    assert scheduler == job.find_scheduler()


def test_a_program_that_never_answers_is_rolled_back(cluster, swarm, lab, job):
    """Swarm waits for its health check, and the deployment for its deadline."""
    scheduler = job.find_scheduler(restart=True)
    image = derived.that_never_works(lab.docker_host, cluster.config["image"])
    printed = cluster.refuse(image=image, healthDeadline=12)
    assert "not proven within 9 s" in printed
    assert "rolled back: " in printed
    count = cluster.config["workers"]
    wait_for("all workers", lambda: len(running_tasks(swarm)["dask_worker"]) == count)
    assert scheduler == job.find_scheduler()


def test_mixed_versions_are_rolled_back(cluster, swarm, lab):
    """All tasks run, and yet the notebook is rolled back; no other task is touched.

    This includes the services that a previous rollback restored to the declared spec.
    """
    before = running_tasks(swarm)
    notebook_image = cluster.config["notebookImage"]
    image = derived.that_reports_another_version(lab.docker_host, notebook_image)
    printed = cluster.refuse(notebookImage=image)
    assert "expected one version of distributed everywhere" in printed
    assert "rolled back: dask_notebook as before this update" in printed
    assert "being rolled back" not in printed
    assert not replaced_services(before, running_tasks(swarm)) - {"dask_notebook"}


def test_changes_of_an_interrupted_deployment_are_rolled_back(cluster, swarm, lab):
    """The next deployment finds the change as declared, cannot prove it, and undoes it."""
    before = image_of(swarm, "dask_notebook")
    notebook_image = cluster.config["notebookImage"]
    image = derived.that_reports_another_version(lab.docker_host, notebook_image)
    cluster.deployment.configure(**cluster.config | {"notebookImage": image})
    cluster.deployment.interrupt("up", lambda: image_of(swarm, "dask_notebook") == image)
    assert image == image_of(swarm, "dask_notebook")
    # Longer than an update may precede its proof.
    time.sleep(TIMING.lead)
    printed = cluster.refuse(notebookImage=image)
    assert "rolled back: dask_notebook as before this update" in printed
    assert before == image_of(swarm, "dask_notebook")


def image_of(swarm, name):
    """Return the image of a service's spec."""
    return service_of(swarm, name).attrs["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]


def test_the_same_bad_value_fails_again(cluster):
    """An unchanged config that has failed before fails again."""
    cluster.skip_in_rehearsal()
    printed = cluster.deployment.fail("up")
    assert "expected one version of distributed everywhere" in printed
    assert "rolled back: dask_notebook as before this update" in printed


def test_a_good_value_recovers(cluster):
    """The next deployment is proven without manual work."""
    cluster.change(notebookMemory="1GiB")
    health = cluster.deployment.runner.outputs()["health"]
    assert cluster.config["workers"] == health["workers"]
