"""The images as containers: what works in them for a user who is not root, and what must not."""

from contextlib import closing, contextmanager

import docker
import pytest

from tests.swarm.wheels import OPTIONS, copy_into, wheel

KINDS = {"image": "workers", "notebookImage": "notebook"}
HOME = "images-test-home"
SERVER = "from prefect.server.api.server import create_app; print(create_app().title)"
# What Dask's PipInstall does on a worker.
PIP_INSTALL = """
from distributed.diagnostics.plugin import PipInstall
PipInstall({packages!r}, pip_options={options!r})._install_fn()
"""
# Every module's place on Python's path, the folder of the image and that of the home.
PATHS = """
import site, sys
image, home = site.getsitepackages()[0], site.getusersitepackages()
print(sys.path.index(image) < sys.path.index(home))
"""


@pytest.fixture(scope="module")
def engine(lab):
    """Return a client of the node whose engine has all images."""
    with closing(docker.DockerClient(lab.docker_host)) as client:
        yield client


@contextmanager
def running(engine, image, **options):
    """Return a container of an image that waits to be told what to do."""
    container = engine.containers.run(image, ["sleep", "300"], detach=True, **options)
    try:
        yield container
    finally:
        container.remove(force=True)


@pytest.fixture(params=KINDS)
def container(request, engine, images):
    """Return a container of each image."""
    with running(engine, images[request.param]) as found:
        if request.param == "notebookImage":
            start_jupyter(found)
        yield found


def start_jupyter(container):
    """Have Jupyter prepare the home, as it does whenever a program of it starts."""
    call(container, "jupyter", "kernelspec", "list")


@pytest.fixture
def notebook(engine, images):
    """Return a container of the notebook's image."""
    with running(engine, images["notebookImage"]) as found:
        yield found


@pytest.fixture
def home(engine):
    """Return a volume for a home, which has nothing of the image's own in it."""
    volume = engine.volumes.create(HOME)
    yield {HOME: {"bind": "/home/jovyan", "mode": "rw"}}
    volume.remove(force=True)


def call(container, *command):
    """Run a command that must succeed, and return what it printed."""
    status, output = container.exec_run(list(command))
    assert 0 == status, output.decode()
    return output.decode()


def refused(container, *command):
    """Run a command that must fail, and return what it printed."""
    status, output = container.exec_run(list(command))
    assert 0 != status, output.decode()
    return output.decode()


def pip(*words):
    """Return the command of `%pip` with packages from the folder of `copy_into` only."""
    return ["python", "-m", "pip", "install", *OPTIONS.split(), *words]


class TestBoth:
    def test_prefects_server_starts(self, container):
        """Flows that find no other server start one of their own."""
        assert "Prefect" in call(container, "python", "-c", SERVER)

    def test_a_package_can_be_added(self, container):
        """An ordinary user's pip installs, and the processes that run already find it."""
        copy_into(container, wheel("small", "1.0"))
        program = f"""
import importlib, subprocess
subprocess.check_call({["python", "-m", "pip", "install", *OPTIONS.split(), "small"]})
importlib.invalidate_caches()
import small; print(small.VERSION)
"""
        assert "1.0" == call(container, "python", "-c", program).split()[-1]

    def test_what_is_added_comes_last(self, container):
        """A package of the home never stands in for one of the image."""
        assert "True" == call(container, "python", "-c", PATHS).strip()

    @pytest.mark.parametrize("words", [["numpy==1.0"], ["--upgrade", "needy"]])
    def test_no_other_version_takes_the_images_place(self, container, words):
        """What client, scheduler and workers must have alike is refused, with the reason."""
        copy_into(container, wheel("numpy", "1.0"), wheel("needy", "1.0", ["numpy<2"]))
        told = refused(container, *pip(*words))
        assert "(constraint) numpy==" in told
        call(container, "python", "-c", "import numpy; numpy.zeros(1)")

    def test_the_environment_is_not_the_users(self, container):
        """Nothing of the image can be removed or changed."""
        refused(container, "python", "-m", "pip", "uninstall", "--yes", "numpy")
        call(container, "python", "-c", "import numpy; numpy.zeros(1)")


class TestWorkers:
    def test_pip_install_plugin(self, engine, images):
        """What Dask's `PipInstall` does on a worker works."""
        with running(engine, images["image"]) as worker:
            copy_into(worker, wheel("small", "1.0"))
            program = PIP_INSTALL.format(packages=["small"], options=OPTIONS.split())
            call(worker, "python", "-c", program)
            assert "1.0" in call(worker, "python", "-c", "import small; print(small.VERSION)")

    def test_nothing_is_proxied(self, engine, images):
        """With jupyter-server-proxy, the scheduler would open its network to a browser."""
        with running(engine, images["image"]) as worker:
            refused(worker, "python", "-c", "import jupyter_server_proxy")


class TestNotebook:
    def test_what_is_installed_stays(self, engine, images, home):
        """A package is in the home, so the next container has it too."""
        with running(engine, images["notebookImage"], volumes=home) as first:
            copy_into(first, wheel("small", "1.0"))
            call(first, *pip("small"))
        with running(engine, images["notebookImage"], volumes=home) as second:
            assert "1.0" in call(second, "python", "-c", "import small; print(small.VERSION)")

    def test_git_is_there(self, notebook):
        """Notebooks can be kept under version control."""
        call(notebook, "git", "init", "work")
