"""`make bench`: from the command to the proven cluster, ours against the original's, in turns.

Absolute seconds mean little on a shared machine: quote the ratios, which compare neighbours of one
run. Every arm starts from a Swarm whose nodes have the images, and is taken down unmeasured.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import docker
import yaml

from bench.arms import Arm, Baseline, Deploying, Repeating
from bench.front import FrontBench
from bench.measure import measure, report
from lab.layout import Lab, chosen_lab
from lab.runners import ROOT, PulumiCli, Rehearsal, Runner, file_backend, installed_cli

TIDY_SECONDS = 90
CONFIG_FILE = "Pulumi.bench.yaml"


@dataclass(frozen=True, kw_only=True)
class Place:
    """What every bench is given: the lab, a folder of its own, the runners on one config file."""

    lab: Lab
    folder: Path
    images: dict[str, str]
    config_file: Path
    runners: list[Runner]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure on the lab, which must be up, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=sorted(BENCHES), help="one bench instead of all")
    chosen = parser.parse_args(arguments)
    lab = chosen_lab()
    images = _images(lab)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runners = _runners(folder, lab, images)
        place = Place(
            lab=lab,
            folder=folder,
            images=images,
            config_file=folder / CONFIG_FILE,
            runners=runners,
        )
        for bench in [chosen.only] if chosen.only else BENCHES:
            for table in BENCHES[bench](place, chosen.rounds):
                print(table, flush=True)
    return 0


def _deploy(place: Place, rounds: int) -> Iterator[str]:
    """Yield the table of deployments, the original's and ours."""
    baseline = Baseline(docker_host=place.lab.docker_host, images=place.images)
    arms: list[Arm] = [baseline, *(Deploying(runner=each) for each in place.runners)]
    seconds = measure(arms, rounds, before_each=lambda: _wait_until_empty(place.lab))
    yield report("Seconds from the command to a proven cluster", seconds)


def _no_op(place: Place, rounds: int) -> Iterator[str]:
    """Yield the table of an `up` that changes nothing, over the CLI's own floor."""
    ours = place.runners[0]
    if not isinstance(ours, PulumiCli):
        return
    floor = _empty_program(place.folder, ours)
    Deploying(runner=ours).run()
    try:
        arms = [
            Repeating(name="a program without resources", runner=floor),
            Repeating(name="this program", runner=ours),
        ]
        yield report("Seconds for an up that changes nothing", measure(arms, rounds))
    finally:
        Deploying(runner=ours).undo()


def _front(place: Place, rounds: int) -> Iterator[str]:
    _wait_until_empty(place.lab)
    bench = FrontBench(lab=place.lab, runner=place.runners[0], config_file=place.config_file)
    yield from bench.tables(rounds)


BENCHES: dict[str, Callable[[Place, int], Iterator[str]]] = {
    "deploy": _deploy,
    "no-op": _no_op,
    "front": _front,
}


def _empty_program(folder: Path, ours: PulumiCli) -> PulumiCli:
    project = folder / "floor"
    project.mkdir()
    environment = {"virtualenv": str(ROOT / ".venv")}
    settings = {"name": "floor", "runtime": {"name": "python", "options": environment}}
    (project / "Pulumi.yaml").write_text(yaml.safe_dump(settings))
    (project / "__main__.py").write_text("")
    floor = PulumiCli(stack="floor", cli=ours.cli, settings=ours.settings, project=project)
    floor.create()
    return floor


def _images(lab: Lab) -> dict[str, str]:
    """Return the images that the lab holds, as the dev stack names them."""
    config = yaml.safe_load((ROOT / "Pulumi.dev.yaml").read_text())["config"]
    keys = ("image", "notebookImage", "caddyImage")
    usual = Lab().registry
    return {key: config[f"dask-swarm:{key}"].replace(usual, lab.registry) for key in keys}


def _runners(folder: Path, lab: Lab, images: dict[str, str]) -> list[Runner]:
    """Return the Pulumi CLI where it is installed, and the rehearsal, on a stack of defaults."""
    config_file = folder / CONFIG_FILE
    config = {"dockerHost": lab.docker_host} | images
    values = {f"dask-swarm:{key}": value for key, value in config.items()}
    config_file.write_text(yaml.safe_dump({"config": values}))
    (folder / "Pulumi.yaml").write_text((ROOT / "Pulumi.yaml").read_text())
    rehearsal = Rehearsal(stack="bench", config_file=config_file)
    cli = installed_cli()
    if cli is None:
        return [rehearsal]
    settings = file_backend(folder / "state")
    pulumi = PulumiCli(stack="bench", cli=cli, config_file=config_file, settings=settings)
    pulumi.create()
    return [pulumi, rehearsal]


def _wait_until_empty(lab: Lab) -> None:
    """Wait for all nodes: a deployment beside tasks that are ending waits for their network."""
    deadline = time.monotonic() + TIDY_SECONDS
    for node in lab.nodes:
        with closing(docker.DockerClient(node.docker_host)) as engine:
            while engine.containers.list() or engine.networks.list(names=["dask-network"]):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the last deployment is not gone after {TIDY_SECONDS} s")
                time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
