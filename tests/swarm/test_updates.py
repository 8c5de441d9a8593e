"""Updates for real: what each one restarts, and what becomes of one that cannot succeed."""

import json
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass

import docker
import pytest

from health.timing import TIMING
from tests.changes import CHANGES, NEWER, REBUILT
from tests.swarm import derived
from tests.swarm.conftest import RUNNERS, cluster_services, probe_services, wait_for

DEADLINE = 150
# Computes on the cluster, again and again, as work does that knows nothing of an update.
WITNESS = """
import json, pathlib, sys, time
from dask.distributed import Client
told = pathlib.Path(sys.argv[1])
draft, done = told.with_suffix(".draft"), 0
with Client("scheduler:8786", timeout="20s") as client:
    while True:
        assert 42 == client.submit(int, "42", pure=False).result(timeout=20)
        done += 1
        draft.write_text(json.dumps({"scheduler": client.scheduler_info()["id"], "done": done}))
        draft.replace(told)
        time.sleep(0.2)
"""
ROWS = [each for each in CHANGES if not each.base]


@dataclass(kw_only=True)
class Cluster:
    """A deployed stack and its config at present; a change stays until the next one."""

    deployment: object
    config: dict

    def change(self, **config):
        """Deploy with some of the config changed."""
        self.deployment.configure(**self.config | config)
        self.deployment.run("up")
        self.config |= config

    def leave_to_the_engine(self):
        """Skip a test by the rehearsal: other tests of the rehearsal say as much."""
        if self.deployment.runner.name == "rehearsal":
            pytest.skip("left to the engine")

    def refuse(self, **config):
        """Deploy what must fail, in time, and return the message."""
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
    with deployed(request.param, control_host, **config) as made:
        yield Cluster(deployment=made, config=made.defaults | config)


@dataclass(kw_only=True)
class Witness:
    """A computation in the notebook's container; another begins where one could not go on."""

    engine: object
    process: str = ""
    container: str = ""
    file: str = ""

    def look(self, *, anew=False):
        """Return the id of its scheduler, once it has got further than it is now."""
        wanted = {"label": "com.docker.swarm.service.name=dask_notebook"}
        (notebook,) = self.engine.containers.list(filters=wanted)
        if anew and not (notebook.id == self.container and self._is_at_work()):
            self._start(notebook)
        begun = self._told(notebook).get("done", 0)
        wait_for(lambda: self._told(notebook).get("done", 0) > begun, 30)
        return self._told(notebook)["scheduler"]

    def _start(self, notebook):
        self.file = f"/tmp/{time.monotonic_ns()}.told"
        program = ["python", "-c", WITNESS, self.file]
        self.process = self.engine.api.exec_create(notebook.id, program)["Id"]
        self.engine.api.exec_start(self.process, detach=True)
        self.container = notebook.id

    def _is_at_work(self):
        return self.engine.api.exec_inspect(self.process)["Running"]

    def _told(self, notebook):
        assert self._is_at_work(), "the computation has come to an end"
        status, told = notebook.exec_run(["cat", self.file])
        return json.loads(told) if status == 0 else {}


@pytest.fixture(scope="module")
def witness(cluster, lab):
    """Return a computation on the cluster."""
    with closing(docker.DockerClient(lab.docker_host)) as engine:
        yield Witness(engine=engine)


def standing_in(lab, cluster, tried):
    """Return what a row tries, with real images and passwords that the engine has encrypted."""
    makers = {REBUILT: derived.rebuilt, NEWER: derived.with_other_version}
    real = dict(tried)
    for key in tried.keys() & {"image", "notebookImage"}:
        real[key] = makers[tried[key]](lab.docker_host, cluster.config[key])
    for key in tried.keys() & {"notebookPassword", "s3SecretKey"}:
        real[key] = cluster.deployment.encrypted(key, tried[key])
    return real


def running(swarm):
    """Return the ids of the running tasks by service."""
    return {
        service.name: {
            task["ID"]
            for task in service.tasks(filters={"desired-state": "running"})
            if task["Status"]["State"] == "running"
        }
        for service in cluster_services(swarm)
    }


def others(before, after):
    """Return the services that have other tasks than before; fewer or more are no others."""
    return {n for n in before if before[n] - after[n] and after[n] - before[n]}


def test_a_new_token_restarts_the_notebook_alone(cluster, swarm):
    """The engine is asked for another one; nothing else notices."""
    cluster.leave_to_the_engine()
    before = running(swarm)
    cluster.deployment.run("up", "--replace", "**RandomPassword::dask-notebook-token")
    assert {"dask_notebook"} == others(before, running(swarm))


@pytest.mark.parametrize("change", ROWS, ids=lambda change: change.what)
def test_a_change_restarts_only_what_it_must(cluster, change, swarm, lab, witness):
    """As the README's table has it: whose tasks are others afterwards, and what work notices."""
    if not change.rehearsed:
        cluster.leave_to_the_engine()
    tried = standing_in(lab, cluster, change.tried)
    scheduler, before = witness.look(anew=True), running(swarm)
    cluster.change(**tried)
    after = running(swarm)
    replaced = others(before, after)
    assert set(change.restarts) == replaced
    if not replaced - {"dask_worker"}:
        assert scheduler == witness.look()


@contextmanager
def also_labelled(swarm, **labels):
    """Give every node other labels besides its own, and take them away again."""
    own = {node.id: node.attrs["Spec"] for node in swarm.nodes.list()}
    for node in swarm.nodes.list():
        node.update(own[node.id] | {"Labels": own[node.id]["Labels"] | labels})
    try:
        yield
    finally:
        for node in swarm.nodes.list():
            node.update(own[node.id])


def test_another_label_of_a_node_restarts_nothing(cluster, swarm, witness):
    """Neither the label itself nor the next deployment, as the table says."""
    scheduler, before = witness.look(anew=True), running(swarm)
    with also_labelled(swarm, rack="1"):
        cluster.change()
        assert before == running(swarm)
        assert scheduler == witness.look()


def test_a_program_that_dies_leaves_the_old_ones_at_work(cluster, swarm, lab, witness):
    """The message has its error and its last words, and the computation never stops."""
    scheduler, before = witness.look(anew=True), running(swarm)
    printed = cluster.refuse(image=derived.that_dies(lab.docker_host, cluster.config["image"]))
    assert "non-zero exit (3)" in printed
    assert "no stomach for this" in printed
    assert "as before this update" in printed
    assert scheduler == witness.look()
    after = running(swarm)
    assert before["dask_scheduler"] == after["dask_scheduler"]
    assert before["dask_worker"] & after["dask_worker"]
    assert not probe_services(swarm)


def test_an_image_that_does_not_exist_is_refused(cluster, swarm, witness):
    """The message names it, and no task is touched."""
    scheduler, image = (
        witness.look(anew=True),
        f"{cluster.config['image'].partition('@')[0]}@{derived.NOWHERE}",
    )
    before = running(swarm)
    assert image in cluster.refuse(image=image)
    assert before == running(swarm)
    assert scheduler == witness.look()


def test_a_program_that_never_answers_is_taken_back(cluster, swarm, lab, witness):
    """The Swarm waits for its health check, the deployment for as long as it may take."""
    scheduler = witness.look(anew=True)
    image = derived.that_never_works(lab.docker_host, cluster.config["image"])
    printed = cluster.refuse(image=image, healthDeadline=12)
    assert "not proven within 9 s" in printed
    assert "rolled back: " in printed
    wait_for(lambda: len(running(swarm)["dask_worker"]) == cluster.config["workers"])
    assert scheduler == witness.look()


def test_mixed_versions_are_taken_back(cluster, swarm, lab):
    """Every task works, and yet what was there before is there again; no other task was touched.

    Not even of the services that have just been taken back to what is declared now as well.
    """
    before = running(swarm)
    image = derived.with_other_version(lab.docker_host, cluster.config["notebookImage"])
    printed = cluster.refuse(notebookImage=image)
    assert "expected one version of distributed everywhere" in printed
    assert "rolled back: dask_notebook as before this update" in printed
    assert "being rolled back" not in printed
    assert not others(before, running(swarm)) - {"dask_notebook"}


def test_what_an_interrupted_deployment_has_changed_is_taken_back(cluster, swarm, lab):
    """The next one finds it as declared already; it is not proven, and nothing of it stays."""
    before = image_of(swarm, "dask_notebook")
    image = derived.with_other_version(lab.docker_host, cluster.config["notebookImage"])
    cluster.deployment.configure(**cluster.config | {"notebookImage": image})
    cluster.deployment.interrupt("up", lambda: image_of(swarm, "dask_notebook") == image)
    assert image == image_of(swarm, "dask_notebook")
    # Longer ago than an update may come before the proof that belongs to it.
    time.sleep(TIMING.lead)
    printed = cluster.refuse(notebookImage=image)
    assert "rolled back: dask_notebook as before this update" in printed
    assert before == image_of(swarm, "dask_notebook")


def image_of(swarm, name):
    """Return the image that a service is to run."""
    (found,) = [each for each in cluster_services(swarm) if each.name == name]
    return found.attrs["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]


def test_the_same_bad_value_fails_again(cluster):
    """Nothing has changed since it was declared; that does not make it good."""
    cluster.leave_to_the_engine()
    printed = cluster.deployment.fail("up")
    assert "expected one version of distributed everywhere" in printed
    assert "rolled back: dask_notebook as before this update" in printed


def test_a_good_value_recovers(cluster):
    """Without any work by hand the next deployment is proven."""
    cluster.change(notebookMemory="1GiB")
    health = cluster.deployment.runner.outputs()["health"]
    assert cluster.config["workers"] == health["workers"]
