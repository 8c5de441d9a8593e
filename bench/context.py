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

from lab.config import dev_images
from lab.layout import Lab, chosen_lab
from lab.runners import RehearsalRunner
from tools.runners import ROOT, PulumiRunner, Runner, file_backend, installed_cli

TIDY_SECONDS = 90


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


def run_in_notebook(docker_host: str, program: str, seconds: int, *arguments: str) -> str:
    """Return what a Python program prints in the notebook's container, of either stack."""
    with closing(docker.APIClient(docker_host)) as engine:
        wanted = {"label": "com.docker.swarm.service.name=dask_notebook"}
        (notebook,) = engine.containers(filters=wanted)
    enter = ["docker", "--host", docker_host, "exec", notebook["Id"]]
    done = subprocess.run(
        [*enter, "timeout", str(seconds), "python", "-c", program, *arguments],
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        timeout=seconds + 10,
    )
    return done.stdout


def wait_until_empty(lab: Lab) -> None:
    """Wait for all nodes: a deployment beside tasks that are ending waits for their network."""
    deadline = time.monotonic() + TIDY_SECONDS
    for node in lab.nodes:
        with closing(docker.DockerClient(node.docker_host)) as engine:
            while engine.containers.list() or engine.networks.list(names=["dask-network"]):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the last deployment is not gone after {TIDY_SECONDS} s")
                time.sleep(0.5)
