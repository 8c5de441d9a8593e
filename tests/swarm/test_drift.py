"""What somebody does by hand is shown by the look for drift, and repaired and proven by an up."""

import time

import docker
import pytest

from tests.swarm.conftest import RUNNERS, cluster_services, proof_records

pytestmark = pytest.mark.skipif(
    "pulumi" not in RUNNERS, reason="only the Pulumi CLI can look for drift"
)
REMOVED_SECONDS = 60
DRIFT = ("--refresh", "--expect-no-changes")


@pytest.fixture(scope="module")
def deployment(deployed, control_host):
    """Return a small deployment that the tests of this module damage and repair."""
    with deployed("pulumi", control_host, workers=2, workersPerNode=1) as made:
        yield made


def service(swarm, name):
    (found,) = [each for each in cluster_services(swarm) if each.name == name]
    return found


def scale(swarm):
    """Out of band, as by `docker service scale dask_worker=1`."""
    service(swarm, "dask_worker").scale(1)
    return ["dask-workers-service"]


def scale_again(swarm):
    """The same as before makes the same spec, and must be told from it."""
    return scale(swarm)


def change_environment(swarm):
    """As by `docker service update --env-add …`: the task is replaced."""
    found = service(swarm, "dask_scheduler")
    env = found.attrs["Spec"]["TaskTemplate"]["ContainerSpec"]["Env"]
    found.update(env=[*env, "ADDED=by hand"], fetch_current_spec=True)
    return ["dask-scheduler-service"]


def remove_service_and_config(swarm):
    """A config can be removed only when no service uses it."""
    service(swarm, "dask_notebook").remove()
    (config,) = swarm.configs.list(filters={"name": "dask-notebook-config"})
    config.remove()
    return ["dask-notebook-service", "dask-notebook-config"]


def remove_network(swarm):
    """A network can be removed only when nothing is on it."""
    for each in cluster_services(swarm):
        each.remove()
    deadline = time.monotonic() + REMOVED_SECONDS
    while found := swarm.networks.list(names=["dask-network"]):
        assert time.monotonic() < deadline, "tasks hold on to the network"
        try:
            found[0].remove()
        except docker.errors.APIError:
            time.sleep(0.5)
    return ["dask-network-overlay", "dask-scheduler-service", "dask-workers-service"]


def spec_of(swarm):
    """Return what must be as before after a repair: every service without ids."""
    found = {}
    for each in cluster_services(swarm):
        spec = each.attrs["Spec"]
        container = spec["TaskTemplate"]["ContainerSpec"]
        found[each.name] = (spec["Mode"], container["Image"], container.get("Env"))
    return found


@pytest.mark.parametrize(
    "damage",
    [scale, scale_again, change_environment, remove_service_and_config, remove_network],
)
def test_what_was_done_by_hand_is_shown_and_repaired(deployment, swarm, damage):
    """The look for drift fails and names it; an up makes it as it was, and proves it again."""
    before, proven = spec_of(swarm), proof_records(swarm)
    deployment.run("preview", *DRIFT)
    named = damage(swarm)
    shown = deployment.fail("preview", *DRIFT)
    assert all(name in shown for name in named), shown
    deployment.run("up")
    assert before == spec_of(swarm)
    assert proven != proof_records(swarm)
    deployment.run("preview", *DRIFT)
