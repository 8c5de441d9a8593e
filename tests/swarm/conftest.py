"""The lab for the tests that deploy for real, and both ways to run the program on it."""

import json
import multiprocessing
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest
import yaml

from lab.config import dev_images
from lab.layout import chosen_lab
from lab.runners import RehearsalRunner
from tests.conftest import ROOT
from tests.swarm import ingress, sshd
from tools.runners import PulumiRunner, file_backend, installed_cli

RUNNERS = ["rehearsal", "pulumi"] if installed_cli() else ["rehearsal"]
DRAIN_SECONDS = 90


def lab_command(command):
    """Run `python -m lab <command>`, its progress shown."""
    done = subprocess.run([sys.executable, "-m", "lab", command], cwd=ROOT, check=False)
    if done.returncode:
        pytest.fail(f"python -m lab {command} ended with {done.returncode}; the suite needs it")


@pytest.fixture(scope="session")
def lab():
    """Return the lab, up; one that was down before is taken down again."""
    found = chosen_lab()
    was_up = found.master.socket.exists()
    lab_command("up")
    yield found
    if not was_up:
        lab_command("down")


@pytest.fixture(scope="session")
def swarm(lab):
    """Return a client of the lab's manager."""
    with closing(docker.DockerClient(lab.docker_host)) as client:
        yield client


@pytest.fixture(scope="session")
def images(lab):
    """Return the references of the images that the lab holds, as the dev stack names them."""
    return dev_images(lab)


@pytest.fixture(scope="module")
def edge(lab, swarm, images):
    """Return the folder of an existing Caddy with sites of its own, on the lab's master."""
    with ingress.existing_caddy(lab, swarm, images) as folder:
        yield folder


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A stack of one test: its config, which begins with `defaults`, is changed between runs."""

    runner: object
    config_file: object
    defaults: dict

    def configure(self, **changes):
        """Make the stack's config the defaults with these changes, and no others."""
        old = yaml.safe_load(self.config_file.read_text()) if self.config_file.exists() else {}
        config = self.defaults | changes
        values = {f"dask-swarm:{key}": value for key, value in config.items()}
        self.config_file.write_text(yaml.safe_dump(old | {"config": values}))

    def encrypted(self, key, value):
        """Return a value as the engine keeps a secret in the config."""
        arguments = ["--secret", f"dask-swarm:{key}", value, "--config-file", self.config_file]
        self.runner._call(["config", "set", "--stack", "test", *arguments], capture=True)
        return yaml.safe_load(self.config_file.read_text())["config"][f"dask-swarm:{key}"]

    def run(self, action, *options):
        """Run one action and return what it printed; fails the test when the action fails."""
        done = self.runner.run(action, *options, capture=True)
        assert 0 == done.returncode, done.stdout + done.stderr
        return done.stdout + done.stderr

    def interrupt(self, action, when):
        """Begin an action, and interrupt it as soon as `when` holds."""
        begun = multiprocessing.get_context("fork").Process(target=self.runner.run, args=(action,))
        begun.start()
        try:
            wait_for(when)
        finally:
            begun.terminate()
            begun.join()

    def fail(self, action, *options):
        """Run one action that must fail and return what it printed."""
        done = self.runner.run(action, *options, capture=True)
        assert 0 != done.returncode, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="session")
def defaults_for_lab(lab, images):
    """Return the config that every stack of the tests starts from: the program's defaults."""
    return {"dockerHost": lab.docker_host, "healthDeadline": 90} | images


@pytest.fixture(scope="session")
def control_host(lab):
    """Return a machine apart from the Swarm, whose only way to the manager is SSH."""
    # The sockets of ssh have to have short paths.
    with (
        tempfile.TemporaryDirectory(prefix="sshd-") as folder,
        sshd.running(lab.master, Path(folder)) as server,
    ):
        yield server


@pytest.fixture(scope="session")
def new_deployment(defaults_for_lab, tmp_path_factory):
    """Return a function that makes a stack for a runner, on this machine or a control host."""

    def make(runner, control_host=None):
        folder = tmp_path_factory.mktemp(runner)
        config_file = folder / "Pulumi.test.yaml"
        shutil.copy(ROOT / "Pulumi.yaml", folder)
        defaults, wrapper = defaults_for_lab, ()
        if control_host:
            defaults = defaults_for_lab | {"dockerHost": control_host.address}
            wrapper = control_host.command()
        common = {"stack": "test", "config_file": config_file, "wrapper": wrapper}
        if runner == "pulumi":
            settings = file_backend(folder / "state")
            chosen = PulumiRunner(cli=installed_cli(), settings=settings, **common)
        else:
            # Left by a run that was cut short, perhaps in a lab that is gone since.
            (ROOT / ".pulumi" / "rehearsal" / "test.json").unlink(missing_ok=True)
            chosen = RehearsalRunner(**common)
        deployment = Deployment(runner=chosen, config_file=config_file, defaults=defaults)
        deployment.configure()
        chosen.create()
        return deployment

    return make


@pytest.fixture(scope="session")
def deployed(new_deployment, swarm):
    """Return a context manager: a stack put up on an empty Swarm, and destroyed in the end."""

    @contextmanager
    def deploy(runner, control_host=None, **config):
        assert not wait_until_gone(swarm)
        made = new_deployment(runner, control_host)
        made.configure(**config)
        try:
            made.run("up")
            yield made
        finally:
            made.run("destroy")

    return deploy


def wait_for(condition, seconds=60):
    """Wait until `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        time.sleep(0.5)


def leftovers(swarm):
    """Return the names of everything on the Swarm that a deployment may have made."""
    kinds = [swarm.services, swarm.configs, swarm.secrets, swarm.networks]
    names = [each.name for kind in kinds for each in kind.list()]
    return [name for name in names if name.startswith(("dask", "front"))]


def wait_until_gone(swarm, seconds=DRAIN_SECONDS):
    """Return what is still there after the Swarm had time to end the tasks."""
    deadline = time.monotonic() + seconds
    while (found := leftovers(swarm)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


def proof_records(swarm):
    """Return the ids of the notes that proofs have left on the Swarm."""
    return [each.id for each in swarm.configs.list(filters={"name": "dask-health-proven"})]


def specs(swarm):
    """Return the spec of every service by name, ids replaced by what they stand for."""
    names = {each.id: each.name for each in swarm.networks.list()}
    text = json.dumps({each.name: each.attrs["Spec"] for each in cluster_services(swarm)})
    for identifier, name in names.items():
        text = text.replace(identifier, name)
    return json.loads(text)


def cluster_services(swarm):
    """Return the services that a deployment declares."""
    names = {"dask_scheduler", "dask_worker", "dask_notebook"}
    return [each for each in swarm.services.list() if each.name in names]


def probe_services(swarm):
    """Return the probe's services that are on the network of a deployment."""
    ours = {network.id for network in swarm.networks.list(names=["dask-network"])}
    return [
        each
        for each in swarm.services.list()
        if each.name.startswith("dask_health")
        and ours & {to["Target"] for to in each.attrs["Spec"]["TaskTemplate"]["Networks"]}
    ]
