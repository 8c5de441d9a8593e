"""What every bench starts from: the lab, and a stack of defaults with the ways to deploy it."""

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker
import yaml

from bench.arms import Arm, Baseline, Deploying
from lab.config import dev_images
from lab.layout import Lab, chosen_lab
from lab.runners import RehearsalRunner
from tools.runners import ROOT, PulumiRunner, Runner, file_backend, installed_cli

TIDY_SECONDS = 90
OUT_OF_TIME = 124  # how `timeout` ends when it had to end the program


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
        """The way to deploy that is nearest to a user's."""
        return self.runners[0]

    @property
    def stacks(self) -> tuple[Arm, Arm]:
        """The original stack and ours, on the same image; they take turns: they share names."""
        original = Baseline(docker_host=self.lab.docker_host, images=self.images)
        return original, Deploying(runner=self.runner)

    @contextmanager
    def deployed(self, stack: Arm) -> Iterator[None]:
        """Have a stack on the lab, once the last one is gone."""
        wait_until_empty(self.lab)
        try:
            stack.run()
            yield
        finally:
            stack.undo()


@contextmanager
def prepared() -> Iterator[Context]:
    """Yield a context on the lab, which must be up."""
    lab = chosen_lab()
    with tempfile.TemporaryDirectory() as name:
        folder, images = Path(name), dev_images(lab)
        config_file = folder / "Pulumi.bench.yaml"
        config = {"dockerHost": lab.docker_host} | images
        values = {f"dask-swarm:{key}": value for key, value in config.items()}
        config_file.write_text(yaml.safe_dump({"config": values}))
        (folder / "Pulumi.yaml").write_text((ROOT / "Pulumi.yaml").read_text())
        runners = _runners(folder, config_file)
        yield Context(
            lab=lab, folder=folder, config_file=config_file, images=images, runners=runners
        )


def _runners(folder: Path, config_file: Path) -> tuple[Runner, ...]:
    rehearsal = RehearsalRunner(stack="bench", config_file=config_file)
    cli = installed_cli()
    if cli is None:
        return (rehearsal,)
    settings = file_backend(folder / "state")
    pulumi = PulumiRunner(stack="bench", cli=cli, config_file=config_file, settings=settings)
    pulumi.create()
    return (pulumi, rehearsal)


def run_in_notebook(docker_host: str, name: str, program: str, seconds: int) -> str:
    """Return what a Python program prints in the notebook's container, of either stack."""
    command = in_notebook(docker_host, program, seconds)
    done = subprocess.run(
        command, check=False, text=True, stdout=subprocess.PIPE, timeout=seconds + 10
    )
    if done.returncode == OUT_OF_TIME:
        raise TimeoutError(f"{name} in the notebook: not done after {seconds} s")
    if done.returncode:
        raise RuntimeError(f"{name} in the notebook ended with {done.returncode}")
    return done.stdout


def in_notebook(docker_host: str, program: str, seconds: int, *arguments: str) -> list[str]:
    """Return the command that runs a program there for so long at most."""
    with closing(docker.APIClient(docker_host)) as engine:
        wanted = {"label": "com.docker.swarm.service.name=dask_notebook"}
        (notebook,) = engine.containers(filters=wanted)
    # A name that is gone for a moment is not asked for at the machine's own name servers for long.
    patience = ["--env", "RES_OPTIONS=timeout:1 attempts:1"]
    enter = ["docker", "--host", docker_host, "exec", *patience, notebook["Id"]]
    return [*enter, "timeout", str(seconds), "python", "-c", program, *arguments]


def wait_until_empty(lab: Lab) -> None:
    """Wait for all nodes: a deployment beside tasks that are ending waits for their network."""
    deadline = time.monotonic() + TIDY_SECONDS
    for node in lab.nodes:
        with closing(docker.DockerClient(node.docker_host)) as engine:
            while engine.containers.list() or engine.networks.list(names=["dask-network"]):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the last deployment is not gone after {TIDY_SECONDS} s")
                time.sleep(0.5)
