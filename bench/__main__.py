"""`make bench`: from the command to the proven cluster, ours against the original's, in turns.

Absolute seconds mean little on a shared machine: quote the ratios, which compare neighbours of one
run. Every arm starts from a Swarm whose nodes have the images, and is taken down unmeasured.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import docker
import yaml

from bench.arms import Arm, Baseline, Deploying, Repeating
from bench.measure import measure, report
from lab.layout import Lab, chosen_lab
from lab.runners import ROOT, PulumiCli, Rehearsal, Runner, file_backend, installed_cli

TIDY_SECONDS = 90


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure on the lab, which must be up, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args(arguments).rounds
    lab = chosen_lab()
    images = _images()
    with tempfile.TemporaryDirectory() as name:
        runners = _runners(Path(name), lab, images)
        baseline = Baseline(docker_host=lab.docker_host, images=images)
        arms: list[Arm] = [baseline, *(Deploying(runner=each) for each in runners)]
        seconds = measure(arms, rounds, before_each=lambda: _wait_until_empty(lab))
        print(report("Seconds from the command to a proven cluster", seconds))
        if isinstance(runners[0], PulumiCli):
            print(_no_op(runners[0], Path(name), rounds))
    return 0


def _no_op(ours: PulumiCli, folder: Path, rounds: int) -> str:
    """Return the table of an `up` that changes nothing, over the CLI's own floor."""
    floor = _empty_program(folder, ours)
    Deploying(runner=ours).run()
    try:
        arms = [
            Repeating(name="a program without resources", runner=floor),
            Repeating(name="this program", runner=ours),
        ]
        return report("Seconds for an up that changes nothing", measure(arms, rounds))
    finally:
        Deploying(runner=ours).undo()


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


def _images() -> dict[str, str]:
    config = yaml.safe_load((ROOT / "Pulumi.dev.yaml").read_text())["config"]
    return {key: config[f"dask-swarm:{key}"] for key in ("image", "notebookImage")}


def _runners(folder: Path, lab: Lab, images: dict[str, str]) -> list[Runner]:
    """Return the Pulumi CLI where it is installed, and the rehearsal, on a stack of defaults."""
    config_file = folder / "Pulumi.bench.yaml"
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
