"""The upgrade check: when it runs, and what waits for it."""

import json

import pytest

from tests.changes import CHANGES, SCHEDULER
from tests.program.test_changes import as_text

CHECK = "dask-upgrade-run"


def request_of(program):
    """Return what the check is asked."""
    return json.loads(program.command(CHECK).inputs["stdin"])


def waiting(program):
    """Return the components that wait for the check."""
    return {name for name in program.requests if CHECK in program.dependencies(name)}


def test_a_deployment_without_another_image_checks_nothing(run):
    """Neither a first one nor a later one: the check stays as it was, and nothing waits for it."""
    program = run()
    assert {} == request_of(program)
    assert {"environment", "stdin", "triggers"} == {*program.requests[CHECK].ignoreChanges}
    assert set() == waiting(program)


def test_everything_waits_for_the_check_of_another_image(run):
    """Before any service, network or secret is touched."""
    found = {"changed_images": ("image",)}
    managed = {"caddyMode": "managed", "domain": "localhost", "auth": "none"}
    program = run(found=found, idleDeadline="60", **managed)
    assert {"front", "dask", "dask-health"} <= waiting(program)
    images = request_of(program)["images"]
    assert images["image"] == program.container("dask_scheduler")["image"]
    assert images["notebookImage"] == program.container("dask_notebook")["image"]
    assert (["image"], 300, 60) == tuple(
        request_of(program)[key] for key in ("changed", "deadline_seconds", "idle_seconds")
    )
    assert [] == [*program.requests[CHECK].ignoreChanges]


def test_each_deployment_of_another_image_is_checked(run):
    """An earlier one may have passed its check and then failed."""
    found = {"changed_images": ("image",)}
    first, second = (run(found=found).command(CHECK).inputs["triggers"] for _ in range(2))
    assert first != second


def test_another_scheduler_is_no_other_image(run):
    """There is only the wait for computations, and nothing without a deadline for it."""
    found = {"replaces_scheduler": True}
    assert {} == request_of(run(found=found))
    program = run(found=found, idleDeadline="60")
    assert ({}, 60) == tuple(request_of(program)[key] for key in ("images", "idle_seconds"))
    assert "dask" in waiting(program)


@pytest.mark.parametrize("name", ["dask-network-overlay", "dask-workers-service"])
def test_resources_are_registered_after_the_check(run, name):
    """The SDK registers a component's children after what the component waits for."""
    program = run(found={"changed_images": ("notebookImage",)})
    order = [resource.name for resource in program.resources]
    assert order.index(CHECK) < order.index(name)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.what)
def test_the_scheduler_is_labelled_with_all_that_replaces_it(run, change):
    """By the label the next deployment knows whether it replaces the scheduler."""
    usual = as_text(change.base)
    label = "dask.swarm/scheduler"
    before, after = (
        run(**config).labels("dask_scheduler")[label]
        for config in (usual, usual | as_text(change.tried))
    )
    # The Swarm itself shows which images and network it has.
    elsewhere = {"image", "networkSubnet"} & {*change.keys}
    assert (SCHEDULER in change.restarts and not elsewhere) == (before != after)


def test_the_check_knows_its_own_cluster(run):
    """The scheduler and the network of a cluster with another name."""
    program = run(found={"changed_images": ("image",)}, clusterName="blue", again=True)
    request = json.loads(program.command("blue-upgrade-run").inputs["stdin"])
    assert ("blue_scheduler", "blue-network") == (request["scheduler"], request["network_name"])
