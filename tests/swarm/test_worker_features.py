"""A client in the notebook can use all features of workers with a nanny."""

from contextlib import ExitStack, closing
from pathlib import Path

import docker
import pytest

from tests.swarm import worker_features
from tests.swarm.conftest import RUNNERS
from tests.swarm.containers import containers_of, run_in

PROGRAM = Path(worker_features.__file__).read_text()
SECONDS = 240  # for each feature


@pytest.fixture(scope="module", params=RUNNERS)
def cluster(request, deployed):
    """Return a deployed cluster with environment variables, which is destroyed afterwards."""
    with deployed(request.param, environment={"TOKEN": "of-the-stack"}) as deployment:
        yield deployment


@pytest.fixture
def containers(cluster, lab):
    """Return a function that lists the running containers of a service."""
    with ExitStack() as stack:
        clients = [docker.DockerClient(node.docker_host) for node in lab.nodes]
        engines = [stack.enter_context(closing(client)) for client in clients]

        yield lambda name: [
            container for engine in engines for container in containers_of(engine, name)
        ]


@pytest.fixture
def try_out(containers):
    """Return a function that tries a feature, after which all containers must be the same."""

    def try_one(feature):
        before = {container.id for container in containers("dask_worker")}
        (notebook,) = containers("dask_notebook")
        run_in(notebook, "timeout", str(SECONDS), "python", "-c", PROGRAM, feature.__name__)
        assert before == {container.id for container in containers("dask_worker")}

    return try_one


def test_a_client_sets_environment_variables(try_out):
    """Every worker has the variables of `Environ`."""
    try_out(worker_features.environ)


def test_a_client_uploads_a_folder(try_out):
    """`UploadDirectory` with `update_path` makes its modules importable."""
    try_out(worker_features.upload_directory)


@pytest.fixture
def with_pip(containers):
    """Check that the image has pip, which installs the packages of a client."""
    worker = containers("dask_worker")[0]
    assert 0 == worker.exec_run(["python", "-m", "pip", "--version"])[0]


def test_a_client_installs_packages(try_out, with_pip):
    """`PipInstall` installs them while the workers run."""
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
    """`KilledWorker` names the task, and there are four workers again."""
    try_out(worker_features.killed_worker)


def test_a_task_that_fills_the_memory_is_named_and_costs_no_container(try_out):
    """The nanny ends the worker before its container is out of memory."""
    try_out(worker_features.memory)


def test_more_data_than_memory_is_kept(try_out):
    """Workers spill to disk, and the kernel kills none."""
    try_out(worker_features.more_than_memory)


def test_a_task_uses_processes(try_out):
    """Pools of both kinds work, and their end does not end the worker."""
    try_out(worker_features.processes)


def test_strings_are_grouped_by_value(try_out):
    """All workers have the same hashes, so that a bag has one group for each key."""
    try_out(worker_features.groups)


def test_libraries_use_the_threads_of_the_worker(try_out):
    """BLAS reads its variables when it is loaded, in a forked process too."""
    try_out(worker_features.limits)


def test_workers_have_the_variables_of_the_stack(try_out):
    """Workers can read the secret's file, and have its variables."""
    try_out(worker_features.variables)
