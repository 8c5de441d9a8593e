"""The drift preview shows manual changes, and an up repairs and proves the deployment."""

from contextlib import suppress

import docker
import pytest

from tests.conftest import wait_for
from tests.swarm.conftest import RUNNERS, cluster_services, proof_records, service_of

pytestmark = pytest.mark.skipif(
    "pulumi" not in RUNNERS, reason="only the Pulumi CLI detects drift"
)
DRIFT = ("--refresh", "--expect-no-changes")


@pytest.fixture(scope="module")
def deployment(deployed, control_host):
    """Return a small deployment that the tests of this module damage and repair."""
    with deployed("pulumi", control_host, workers=2, workersPerNode=1) as deployment:
        yield deployment


def scale(swarm):
    """Scale out of band, like `docker service scale dask_worker=1`."""
    service_of(swarm, "dask_worker").scale(1)
    return ["dask-workers-service"]


def scale_again(swarm):
    """The same change makes the same spec again, and is still a new drift."""
    return scale(swarm)


def change_environment(swarm):
    """Replace the task, like `docker service update --env-add …`."""
    scheduler = service_of(swarm, "dask_scheduler")
    env = scheduler.attrs["Spec"]["TaskTemplate"]["ContainerSpec"].get("Env", [])
    scheduler.update(env=[*env, "ADDED=by hand"], fetch_current_spec=True)
    return ["dask-scheduler-service"]


def update_as_updaters_do(swarm):
    """Change an image and force a restart, like `docker service update --image … --force`."""
    notebook = service_of(swarm, "dask_notebook")
    image = notebook.attrs["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]
    service_of(swarm, "dask_worker").update(image=image, fetch_current_spec=True)
    notebook.force_update()
    return ["dask-workers-service", "dask-health-attempt"]


def remove_service_and_config(swarm):
    """Remove the service first, because a config in use cannot be removed."""
    service_of(swarm, "dask_notebook").remove()
    (config,) = swarm.configs.list(filters={"name": "dask-notebook-config"})
    config.remove()
    return ["dask-notebook-service", "dask-notebook-config"]


def remove_network(swarm):
    """Remove the services first, because a network in use cannot be removed."""
    for service in cluster_services(swarm):
        service.remove()
    wait_for("removal of the network", lambda: network_is_removed(swarm))
    return ["dask-network-overlay", "dask-scheduler-service", "dask-workers-service"]


def network_is_removed(swarm):
    """Remove the network if no task uses it; return whether it is gone."""
    with suppress(docker.errors.APIError):
        for network in swarm.networks.list(names=["dask-network"]):
            network.remove()
    return not swarm.networks.list(names=["dask-network"])


def specs_without_ids(swarm):
    """Return the part of every service's spec that a repair must restore."""
    specs = {}
    for service in cluster_services(swarm):
        spec = service.attrs["Spec"]
        container = spec["TaskTemplate"]["ContainerSpec"]
        specs[service.name] = (spec["Mode"], container["Image"], container.get("Env"))
    return specs


@pytest.mark.parametrize(
    "damage",
    [
        *(scale, scale_again, change_environment, update_as_updaters_do),
        *(remove_service_and_config, remove_network),
    ],
)
def test_a_manual_change_is_shown_and_repaired(deployment, swarm, damage):
    """The drift preview fails and names it; an up repairs it and proves it again."""
    before, proven = specs_without_ids(swarm), proof_records(swarm)
    deployment.run("preview", *DRIFT)
    names = damage(swarm)
    output = deployment.fail("preview", *DRIFT)
    assert all(name in output for name in names), output
    deployment.run("up")
    assert before == specs_without_ids(swarm)
    assert proven != proof_records(swarm)
    deployment.run("preview", *DRIFT)
