"""What distributed documents for workers with a nanny works for a client in the notebook."""

from contextlib import ExitStack, closing
from pathlib import Path

import docker
import pytest

from tests.swarm import worker_features
from tests.swarm.conftest import RUNNERS

PROGRAM = Path(worker_features.__file__).read_text()
SECONDS = 240  # for each feature


@pytest.fixture(scope="module", params=RUNNERS)
def cluster(request, deployed):
    """Return a deployed cluster with variables of work, which is destroyed afterwards."""
    with deployed(request.param, environment={"TOKEN": "of-the-stack"}) as deployment:
        yield deployment


@pytest.fixture
def containers(cluster, lab):
    """Return a function that lists the running containers of a service."""
    with ExitStack() as stack:
        clients = [docker.DockerClient(node.docker_host) for node in lab.nodes]
        engines = [stack.enter_context(closing(client)) for client in clients]

        def of_service(name):
            wanted = {"label": f"com.docker.swarm.service.name={name}"}
            return [each for engine in engines for each in engine.containers.list(filters=wanted)]

        yield of_service


@pytest.fixture
def try_out(containers):
    """Return a function that tries a feature, after which all containers must be the same."""

    def try_one(feature):
        before = {each.id for each in containers("dask_worker")}
        (notebook,) = containers("dask_notebook")
        command = ["timeout", str(SECONDS), "python", "-c", PROGRAM, feature.__name__]
        status, output = notebook.exec_run(command)
        assert 0 == status, output.decode()
        assert before == {each.id for each in containers("dask_worker")}

    return try_one


def test_a_client_sets_environment_variables(try_out):
    """`Environ` counts in every worker."""
    try_out(worker_features.environ)


def test_a_client_uploads_a_folder(try_out):
    """`UploadDirectory` with `update_path` makes its modules importable."""
    try_out(worker_features.upload_directory)


@pytest.fixture
def with_pip(containers):
    """Expect pip in the image, which installs what a client asks for."""
    worker = containers("dask_worker")[0]
    assert 0 == worker.exec_run(["python", "-m", "pip", "--version"])[0]


def test_a_client_installs_packages(try_out, with_pip):
    """`PipInstall` installs them beside workers that go on."""
    try_out(worker_features.pip_install)


def test_a_client_installs_packages_and_restarts_the_workers(try_out, with_pip):
    """`PipInstall` with `restart_workers` ends with new processes that have them."""
    try_out(worker_features.pip_install_with_restart)


def test_a_client_restarts_all_workers(try_out):
    """`Client.restart` ends with new processes."""
    try_out(worker_features.restart)


def test_a_client_restarts_one_worker(try_out):
    """`Client.restart_workers` leaves the others alone."""
    try_out(worker_features.restart_workers)


def test_a_task_that_ends_its_process_is_named(try_out):
    """`KilledWorker` says which task it was, and the workers are four again."""
    try_out(worker_features.killed_worker)


def test_a_task_that_eats_memory_is_named_and_costs_no_container(try_out):
    """A worker is ended before its container is out of memory."""
    try_out(worker_features.memory)


def test_a_task_uses_processes(try_out):
    """Pools of both kinds work, and their end is not the worker's."""
    try_out(worker_features.processes)


def test_strings_are_grouped_by_value(try_out):
    """All workers have the same hashes, or a bag would have several groups for one key."""
    try_out(worker_features.groups)


def test_libraries_use_the_threads_of_the_worker(try_out):
    """What BLAS is told comes before it is loaded, in a forked process too."""
    try_out(worker_features.limits)


def test_workers_have_the_variables_of_the_stack(try_out):
    """The secret's file is readable for them, and its variables count."""
    try_out(worker_features.variables)
