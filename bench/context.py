"""The start of every bench: the lab, and a stack of defaults with its runners."""

import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import yaml

from bench.arms import Arm, Baseline, Deploying, done
from lab.config import dev_images
from lab.layout import Lab, chosen_lab
from lab.runners import RehearsalRunner
from tools.runners import ROOT, PulumiRunner, Runner, file_backend, installed_cli

TIDY_SECONDS = 90
OUT_OF_TIME = 124  # exit code of `timeout` after it has ended the program

Container = Any  # docker is typed in part only


@dataclass(frozen=True, kw_only=True)
class Context:
    """`runners` are the Pulumi CLI where it is installed, and the rehearsal."""

    lab: Lab
    folder: Path
    config_file: Path
    images: dict[str, str]
    runners: tuple[Runner, ...]

    @property
    def runner(self) -> Runner:
        """The runner that is nearest to a user's way to deploy."""
        return self.runners[0]

    @property
    def stacks(self) -> tuple[Arm, Arm]:
        """The original stack and ours, on the same image; they share names, so they take turns."""
        original = Baseline(docker_host=self.lab.docker_host, images=self.images)
        return original, Deploying(runner=self.runner)

    @contextmanager
    def deployed(self, stack: Arm) -> Iterator[float]:
        """Deploy a stack on the lab after the last stack is gone, yield its seconds, undo it."""
        wait_until_empty(self.lab)
        with done(stack) as seconds:
            yield seconds


@contextmanager
def prepared(stack: str = "bench", control_host: Sequence[str] = ()) -> Iterator[Context]:
    """Yield a context on the lab, which must be up; two at a time need stacks of two names.

    `control_host` runs a command on another machine than this.
    """
    lab = chosen_lab()
    with tempfile.TemporaryDirectory() as name:
        folder, images = Path(name), dev_images(lab)
        config_file = folder / f"Pulumi.{stack}.yaml"
        config = {"dockerHost": lab.docker_host, "extraPipPackages": []} | images
        values = {f"dask-swarm:{key}": value for key, value in config.items()}
        config_file.write_text(yaml.safe_dump({"config": values}))
        (folder / "Pulumi.yaml").write_text((ROOT / "Pulumi.yaml").read_text())
        runners = _runners(stack, folder, config_file, control_host)
        yield Context(
            lab=lab, folder=folder, config_file=config_file, images=images, runners=runners
        )


def configure(config_file: Path, config: Mapping[str, object]) -> None:
    """Set keys in a stack's config file."""
    stack = yaml.safe_load(config_file.read_text())
    stack["config"] |= {f"dask-swarm:{key}": value for key, value in config.items()}
    config_file.write_text(yaml.safe_dump(stack))


def _runners(
    stack: str, folder: Path, config_file: Path, control_host: Sequence[str]
) -> tuple[Runner, ...]:
    rehearsal = RehearsalRunner(stack=stack, config_file=config_file, wrapper=control_host)
    cli = installed_cli()
    if cli is None:
        return (rehearsal,)
    settings = file_backend(folder / "state")
    pulumi = PulumiRunner(
        stack=stack,
        cli=cli,
        config_file=config_file,
        settings=settings,
        wrapper=control_host,
    )
    pulumi.create()
    return (pulumi, rehearsal)


def run_in_notebook(
    docker_host: str, name: str, program: str, seconds: int, *arguments: str
) -> str:
    """Run a Python program in the notebook's container of either stack, return its output."""
    command = in_notebook(docker_host, program, seconds, *arguments)
    done = subprocess.run(
        command,
        check=False,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        timeout=seconds + 10,
    )
    if done.returncode == OUT_OF_TIME:
        raise TimeoutError(f"{name} in the notebook: not done after {seconds} s")
    if done.returncode:
        raise RuntimeError(f"{name} in the notebook ended with {done.returncode}")
    return done.stdout


def in_notebook(docker_host: str, program: str, seconds: int, *arguments: str) -> list[str]:
    """Return the command that runs a program in the notebook's container with a time limit."""
    with closing(docker.DockerClient(docker_host)) as engine:
        notebook = container_of(engine, "dask_notebook").id
    # The look-up of a name that is gone for a moment must not wait for the machine's name servers.
    dns = ["--env", "RES_OPTIONS=timeout:1 attempts:1"]
    enter = ["docker", "--host", docker_host, "exec", "--interactive", *dns, notebook]
    return [*enter, "timeout", str(seconds), "python", "-c", program, *arguments]


def containers_of(engine: "docker.DockerClient", service: str) -> list[Container]:
    """Return the running containers of a service on one node."""
    label = f"com.docker.swarm.service.name={service}"
    return list(engine.containers.list(filters={"label": label}))


def container_of(engine: "docker.DockerClient", service: str) -> Container:
    """Return the only running container of a service on one node."""
    (container,) = containers_of(engine, service)
    return container


def wait_until_empty(lab: Lab) -> None:
    """Wait until no node has a container: ending tasks would delay a deployment's network."""
    deadline = time.monotonic() + TIDY_SECONDS
    for node in lab.nodes:
        with closing(docker.DockerClient(node.docker_host)) as engine:
            while engine.containers.list() or engine.networks.list(names=["dask-network"]):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the last deployment is not gone after {TIDY_SECONDS} s")
                time.sleep(0.5)
