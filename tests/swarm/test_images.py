"""The images as containers: what a user without root can do, and what is refused."""

from contextlib import closing, contextmanager

import docker
import pytest

from tests.swarm.containers import run_in
from tests.swarm.wheels import OPTIONS, copy_into, wheel

KINDS = {"image": "workers", "notebookImage": "notebook"}
HOME = "images-test-home"
SERVER = "from prefect.server.api.server import create_app; print(create_app().title)"
# Runs Dask's PipInstall as on a worker.
PIP_INSTALL = """
from distributed.diagnostics.plugin import PipInstall
PipInstall({packages!r}, pip_options={options!r})._install_fn()
"""
# Compares the places of the image's and the home's packages on Python's path.
PATHS = """
import site, sys
image, home = site.getsitepackages()[0], site.getusersitepackages()
print(sys.path.index(image) < sys.path.index(home))
"""


@pytest.fixture(scope="module")
def engine(lab):
    """Return a client of the engine that has all images."""
    with closing(docker.DockerClient(lab.docker_host)) as client:
        yield client


@contextmanager
def running(engine, image, **options):
    """Yield a container of an image that waits for commands."""
    container = engine.containers.run(image, ["sleep", "300"], detach=True, **options)
    try:
        yield container
    finally:
        container.remove(force=True)


@pytest.fixture(params=KINDS)
def container(request, engine, images):
    """Return a container of each image."""
    with running(engine, images[request.param]) as container:
        if request.param == "notebookImage":
            start_jupyter(container)
        yield container


def start_jupyter(container):
    """Have Jupyter prepare the home, as every program of Jupyter does."""
    run_in(container, "jupyter", "kernelspec", "list")


@pytest.fixture
def notebook(engine, images):
    """Return a container of the notebook's image."""
    with running(engine, images["notebookImage"]) as container:
        yield container


@pytest.fixture
def home(engine):
    """Return a volume for a home, without files of the image."""
    volume = engine.volumes.create(HOME)
    yield {HOME: {"bind": "/home/jovyan", "mode": "rw"}}
    volume.remove(force=True)


def refused(container, *command):
    """Run a command that must fail, and return its output."""
    status, output = container.exec_run(list(command))
    assert 0 != status, output.decode()
    return output.decode()


def pip(*words):
    """Return a `%pip` command that uses only the folder of `copy_into`."""
    return ["python", "-m", "pip", "install", *OPTIONS.split(), *words]


class TestBoth:
    def test_prefects_server_starts(self, container):
        """Flows without another server start their own."""
        assert "Prefect" in run_in(container, "python", "-c", SERVER)

    def test_a_package_can_be_added(self, container):
        """An ordinary user can install it, and running processes find it."""
        copy_into(container, wheel("small", "1.0"))
        program = f"""
import importlib, subprocess
subprocess.check_call({["python", "-m", "pip", "install", *OPTIONS.split(), "small"]})
importlib.invalidate_caches()
import small; print(small.VERSION)
"""
        assert "1.0" == run_in(container, "python", "-c", program).split()[-1]

    def test_added_packages_come_last(self, container):
        """A package of the home never replaces a package of the image."""
        assert "True" == run_in(container, "python", "-c", PATHS).strip()

    @pytest.mark.parametrize("words", [["numpy==1.0"], ["--upgrade", "needy"]])
    def test_no_other_version_replaces_the_images(self, container, words):
        """A version that client, scheduler and workers must share cannot be replaced."""
        copy_into(container, wheel("numpy", "1.0"), wheel("needy", "1.0", ["numpy<2"]))
        output = refused(container, *pip(*words))
        assert "(constraint) numpy==" in output
        run_in(container, "python", "-c", "import numpy; numpy.zeros(1)")

    def test_the_environment_is_read_only(self, container):
        """Packages of the image cannot be removed or changed."""
        refused(container, "python", "-m", "pip", "uninstall", "--yes", "numpy")
        run_in(container, "python", "-c", "import numpy; numpy.zeros(1)")


class TestWorkers:
    def test_pip_install_plugin(self, engine, images):
        """Dask's `PipInstall` works on a worker."""
        with running(engine, images["image"]) as worker:
            copy_into(worker, wheel("small", "1.0"))
            program = PIP_INSTALL.format(packages=["small"], options=OPTIONS.split())
            run_in(worker, "python", "-c", program)
            assert "1.0" in run_in(worker, "python", "-c", "import small; print(small.VERSION)")

    def test_nothing_is_proxied(self, engine, images):
        """With jupyter-server-proxy, the scheduler would open its network to a browser."""
        with running(engine, images["image"]) as worker:
            refused(worker, "python", "-c", "import jupyter_server_proxy")


class TestNotebook:
    def test_an_installed_package_stays(self, engine, images, home):
        """It is in the home, so the next container has it too."""
        with running(engine, images["notebookImage"], volumes=home) as first:
            copy_into(first, wheel("small", "1.0"))
            run_in(first, *pip("small"))
        with running(engine, images["notebookImage"], volumes=home) as second:
            assert "1.0" in run_in(second, "python", "-c", "import small; print(small.VERSION)")

    def test_git_is_there(self, notebook):
        """Notebooks can be kept under version control."""
        run_in(notebook, "git", "init", "work")
