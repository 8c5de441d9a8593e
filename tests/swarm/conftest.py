"""The lab for the tests that deploy, and both ways to run the program on it."""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import docker
import psutil
import pytest
import yaml

from lab import sshd
from lab.config import dev_images
from lab.layout import chosen_lab
from lab.rehearsal.state import state_file
from lab.runners import RehearsalRunner
from tests.conftest import ROOT, wait_for
from tests.swarm import ingress
from tools.runners import PulumiRunner, file_backend, installed_cli

if (WORKER := os.environ.get("PYTEST_XDIST_WORKER", "gw0")) != "gw0":
    os.environ["DASK_SWARM_LAB"] = WORKER  # a lab of its own
RUNNERS = ["rehearsal", "pulumi"] if installed_cli() else ["rehearsal"]
DRAIN_SECONDS = 90
# Folders with a file for each lab: that the tests have started, and where they deploy.
STARTED_LABS, USED_LABS = "DASK_SWARM_STARTED_LABS", "DASK_SWARM_USED_LABS"


def pytest_configure(config):
    """Have the first process end the labs that any process has started.

    An interrupted process has a few seconds for its end; a lab needs a minute.
    """
    if not hasattr(config, "workerinput"):
        for name in (STARTED_LABS, USED_LABS):
            folder = tempfile.TemporaryDirectory()
            os.environ[name] = folder.name
            config.add_cleanup(folder.cleanup)
        # The last is the first to run.
        config.add_cleanup(partial(end_labs, Path(os.environ[STARTED_LABS])))


def pytest_keyboard_interrupt(excinfo):
    """Have the labs ended where an interrupted test may have left a stack or a drained node."""
    if excinfo.type is KeyboardInterrupt:  # and not `pytest -x`
        shutil.copytree(os.environ[USED_LABS], os.environ[STARTED_LABS], dirs_exist_ok=True)


def end_labs(folder):
    """Remove the labs that are named in a folder's files, side by side."""
    labs = [replace(chosen_lab(), name=file.read_text()) for file in folder.iterdir()]
    with ThreadPoolExecutor() as pool:
        list(pool.map(partial(lab_command, "down"), labs))


def lab_command(command, lab):
    """Run `python -m lab <command>` for a lab and show its progress."""
    chosen = {"DASK_SWARM_LAB": lab.name, "DASK_SWARM_LAB_ENGINE": lab.engine}
    done = subprocess.run(
        [sys.executable, "-m", "lab", command], cwd=ROOT, check=False, env=os.environ | chosen
    )
    if done.returncode:
        pytest.fail(f"python -m lab {command} ended with {done.returncode}")


@pytest.fixture(scope="session")
def lab():
    """Start the lab if it is down; the end of the first process stops it again."""
    lab = chosen_lab()
    if not lab.master.socket.exists():
        Path(os.environ[STARTED_LABS], WORKER).write_text(lab.name)
    lab_command("up", lab)
    return lab


@pytest.fixture(scope="session")
def swarm(lab):
    """Return a client of the lab's manager."""
    with closing(docker.DockerClient(lab.docker_host)) as client:
        yield client


@pytest.fixture(scope="session")
def images(lab):
    """Return the references of the lab's images by config key."""
    return dev_images(lab)


@pytest.fixture(scope="module")
def edge(lab, swarm, images):
    """Return the folder of an existing Caddy with another site, on the lab's master."""
    with ingress.existing_caddy(lab, swarm, images) as folder:
        yield folder


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A stack of one test, whose config starts as `defaults` and changes between runs."""

    runner: object
    config_file: object
    defaults: dict

    def configure(self, **changes):
        """Set the stack's config to the defaults with these changes."""
        old = yaml.safe_load(self.config_file.read_text()) if self.config_file.exists() else {}
        config = self.defaults | changes
        values = {f"dask-swarm:{key}": value for key, value in config.items()}
        self.config_file.write_text(yaml.safe_dump(old | {"config": values}))

    def encrypted(self, key, value):
        """Return a value as the engine encrypts it in the config."""
        arguments = ["--secret", f"dask-swarm:{key}", value, "--config-file", self.config_file]
        self.runner._call(["config", "set", "--stack", "test", *arguments], capture=True)
        return yaml.safe_load(self.config_file.read_text())["config"][f"dask-swarm:{key}"]

    def run(self, action, *options):
        """Run an action that must succeed and return its output."""
        done = self.runner.run(action, *options, capture=True)
        assert 0 == done.returncode, done.stdout + done.stderr
        return done.stdout + done.stderr

    def interrupt(self, action, when):
        """Start an action, and interrupt it as soon as `when` is true."""
        end_when(self, action, when, lambda process: process.terminate())

    def fail(self, action, *options):
        """Run an action that must fail and return its output."""
        done = self.runner.run(action, *options, capture=True)
        assert 0 != done.returncode, done.stdout + done.stderr
        return done.stdout + done.stderr


def kill(deployment, action, when):
    """Start an action and kill all of its processes as soon as `when` is true."""
    end_when(deployment, action, when, lambda process: kill_tree(psutil.Process(process.pid)))


def end_when(deployment, action, when, end):
    """Start an action in a process, and call `end` with it as soon as `when` is true."""
    context = multiprocessing.get_context("fork")
    process = context.Process(target=deployment.runner.run, args=(action,))
    process.start()
    try:
        wait_for(f"reason to end {action}", when, pause=0.02)
    finally:
        end(process)
        process.join()


def kill_tree(process):
    """Kill a process and its descendants, also those in sessions of their own."""
    family = [process, *process.children(recursive=True)]
    for member in family:
        member.suspend()
    for member in {*family, *process.children(recursive=True)}:
        member.kill()


@pytest.fixture(scope="session")
def defaults_for_lab(lab, images):
    """Return the config of every test's stack: the program's defaults, for the lab's images."""
    config = {"dockerHost": lab.docker_host, "healthDeadline": 180, "extraPipPackages": []}
    return config | images


@pytest.fixture(scope="session")
def control_host(lab):
    """Return a machine outside the Swarm that reaches the manager by SSH alone."""
    # The paths of ssh's sockets must be short.
    with (
        tempfile.TemporaryDirectory(prefix="sshd-") as folder,
        sshd.running(lab.master, Path(folder)) as server,
    ):
        yield server


@pytest.fixture(scope="session")
def new_deployment(lab, defaults_for_lab, tmp_path_factory):
    """Return a function that makes a stack for a runner, on this machine or a control host."""

    def make(name, control_host=None, stack="test"):
        Path(os.environ[USED_LABS], WORKER).write_text(lab.name)
        folder = tmp_path_factory.mktemp(name)
        config_file = folder / f"Pulumi.{stack}.yaml"
        shutil.copy(ROOT / "Pulumi.yaml", folder)
        defaults, wrapper = defaults_for_lab, ()
        if control_host:
            defaults = defaults_for_lab | {"dockerHost": control_host.address}
            wrapper = control_host.command()
        common = {"stack": stack, "config_file": config_file, "wrapper": wrapper}
        if name == "pulumi":
            settings = file_backend(folder / "state")
            runner = PulumiRunner(cli=installed_cli(), settings=settings, **common)
        else:
            # An interrupted run may have left it, perhaps of an older lab.
            (ROOT / state_file(stack)).unlink(missing_ok=True)
            runner = RehearsalRunner(**common)
        deployment = Deployment(runner=runner, config_file=config_file, defaults=defaults)
        deployment.configure()
        runner.create()
        return deployment

    return make


@pytest.fixture(scope="session")
def deployed(new_deployment, swarm):
    """Return a context manager that deploys a stack on an empty Swarm and destroys it."""

    @contextmanager
    def deploy(runner, control_host=None, secrets=None, **config):
        assert not wait_until_gone(swarm)
        deployment = new_deployment(runner, control_host)
        for key, value in (secrets or {}).items():
            config[key] = deployment.encrypted(key, value)
        deployment.configure(**config)
        try:
            deployment.run("up")
            yield deployment
        finally:
            try:
                deployment.run("destroy")
            except AssertionError:
                # What is left would fail all tests that follow, and hide this failure.
                remove_leftovers(swarm)
                raise

    return deploy


def leftovers(swarm):
    """Return the names of all services, configs, secrets and networks of a deployment."""
    return [resource.name for resource in left_resources(swarm)]


def left_resources(swarm):
    """Return all services, configs, secrets and networks of a deployment."""
    kinds = [swarm.services, swarm.configs, swarm.secrets, swarm.networks]
    resources = [resource for kind in kinds for resource in kind.list()]
    return [resource for resource in resources if resource.name.startswith(("dask", "front"))]


def remove_leftovers(swarm):
    """Remove what a deployment has left: services, and then what they have used."""
    for resource in left_resources(swarm):
        wait_for(f"removal of {resource.name}", partial(removed, resource), DRAIN_SECONDS)


def removed(resource):
    """Remove a resource, and return whether it is gone; ending tasks keep theirs."""
    try:
        resource.remove()
    except docker.errors.NotFound:
        return True
    except docker.errors.APIError:
        return False
    return True


def wait_until_gone(swarm, seconds=DRAIN_SECONDS):
    """Wait until the Swarm has removed a deployment; return the leftovers."""
    deadline = time.monotonic() + seconds
    while (names := leftovers(swarm)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return names


def proof_records(swarm):
    """Return the ids of the proof records on the Swarm."""
    return [config.id for config in swarm.configs.list(filters={"name": "dask-health-proven"})]


def probe_request():
    """Return the request of the probe that the rehearsal's stack has run."""
    state = json.loads((ROOT / state_file("test")).read_text())
    command = state["resources"]["command:local:Command::dask-health-run"]
    return json.loads(command["inputs"]["stdin"])


def specs(swarm):
    """Return the spec of every service by name, with names of networks instead of ids."""
    names = {network.id: network.name for network in swarm.networks.list()}
    text = json.dumps({service.name: service.attrs["Spec"] for service in cluster_services(swarm)})
    for identifier, name in names.items():
        text = text.replace(identifier, name)
    return json.loads(text)


def task_ids(swarm):
    """Return the ids of the tasks that Swarm wants to run, by service."""
    return {
        service.name: {task["ID"] for task in service.tasks({"desired-state": "running"})}
        for service in cluster_services(swarm)
    }


def cluster_services(swarm):
    """Return the deployed services of the scheduler, the workers and the notebook."""
    names = {"dask_scheduler", "dask_worker", "dask_notebook"}
    return [service for service in swarm.services.list() if service.name in names]


def service_of(swarm, name):
    """Return the deployed service of the cluster with a name."""
    (service,) = [service for service in cluster_services(swarm) if service.name == name]
    return service


def probe_services(swarm):
    """Return the probe's services on a deployment's network."""
    networks = {network.id for network in swarm.networks.list(names=["dask-network"])}
    return [
        service
        for service in swarm.services.list()
        if service.name.startswith("dask_health")
        and networks & {to["Target"] for to in service.attrs["Spec"]["TaskTemplate"]["Networks"]}
    ]
