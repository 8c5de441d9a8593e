"""Pulumi adopts a stack made by `docker stack deploy`; one up proves it."""

import os
import subprocess
import sys

import pytest
import yaml

from bench.arms import COMPOSE
from tests.conftest import ROOT
from tests.swarm import derived
from tests.swarm.conftest import RUNNERS, cluster_services, service_of, wait_until_gone

pytestmark = pytest.mark.skipif("pulumi" not in RUNNERS, reason="only the Pulumi CLI can import")
DEPLOY_SECONDS = 60


def docker_stack(lab, images, *arguments):
    """Run `docker stack …` on the lab like a user of the original stack."""
    variables = {"IMAGE": images["image"], "NOTEBOOK_IMAGE": images["notebookImage"]}
    command = ["docker", "--host", lab.docker_host, "stack", *arguments]
    subprocess.run(command, env=os.environ | variables, check=True, timeout=DEPLOY_SECONDS)


@pytest.fixture
def original(lab, images, swarm, tmp_path):
    """Deploy the original stack in the original way, on a network with the usual name."""
    assert not wait_until_gone(swarm)
    compose = yaml.safe_load(COMPOSE.read_text())
    compose["version"] = "3.5"
    compose["networks"]["dask-network"]["name"] = "dask-network"
    file = tmp_path / "dask.yaml"
    file.write_text(yaml.safe_dump(compose))
    docker_stack(lab, images, "deploy", "--compose-file", str(file), "dask")
    yield identities(swarm)
    docker_stack(lab, images, "rm", "dask")
    assert not wait_until_gone(swarm)


def identities(swarm):
    """Return the ids of the services and the network by name."""
    networks = swarm.networks.list(names=["dask-network"])
    return {resource.name: resource.id for resource in [*cluster_services(swarm), *networks]}


def command_of(swarm, name):
    """Return the command of a service's tasks."""
    return service_of(swarm, name).attrs["Spec"]["TaskTemplate"]["ContainerSpec"]["Args"]


def test_an_existing_stack_is_adopted(original, new_deployment, swarm, lab, images, tmp_path):
    """All resources are kept and updated, and rolled back if the update is not proven."""
    deployment, file = new_deployment("pulumi"), tmp_path / "adopt.json"
    deployment.run("preview", "--import-file", str(file))
    output = subprocess.run(
        [sys.executable, "-m", "tools.adopt", "--in-place", str(file)],
        cwd=ROOT,
        env=os.environ | {"DOCKER_HOST": lab.docker_host},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert 4 == output.count("adopted")
    deployment.run("import", "--file", str(file), "--protect=false", "--generate-code=false")
    deployment.configure(image=derived.that_dies(lab.docker_host, images["image"]))
    printed = deployment.fail("up")
    assert "dask_scheduler, dask_worker as before this update" in printed
    assert ["dask", "scheduler"] == command_of(swarm, "dask_scheduler")
    deployment.configure()
    deployment.run("up")
    assert original == identities(swarm)
    assert 4 == deployment.runner.outputs()["health"]["workers"]
    deployment.run("preview", "--refresh", "--expect-no-changes")
    deployment.run("destroy")
    assert not wait_until_gone(swarm)
