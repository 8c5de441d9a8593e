"""The one-shot service: what it is told, what it may use, and which ones are left over."""

import base64
import bz2
import json

import pytest

from health import job
from health.probe.messages import Expected, Order
from health.request import Request
from swarm.snapshot import Snapshot
from tests.unit.health.test_request import ASKED

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z


def request(**changes):
    return Request.parse(json.dumps(ASKED | changes))


def container(asked):
    return job.spec(asked, "dask_health-1", 170, NOW)["task_template"]["ContainerSpec"]


def test_the_program_travels_as_arguments():
    """Nothing but the service is to be cleaned up, and the image's entrypoint is kept."""
    arguments = container(request())["Args"]
    assert ["python", "-c"] == arguments[:2]
    assert b"def prove(" in bz2.decompress(base64.b64decode(arguments[3]))
    assert container(request())["Command"] is None


def test_the_probe_has_the_packages_of_the_notebook():
    """The official images install them at start, and their versions are compared."""
    assert ["EXTRA_PIP_PACKAGES=prefect s3fs>=2026.1"] == container(request())["Env"]
    assert "Env" not in container(request(packages=[]))


def test_the_program_understands_its_order():
    """Launcher and probe agree on the order's form."""
    order = Order.parse(job.order(request(), 170))
    assert Expected(workers=4, threads=4, memory_bytes=4 * 2**30) == order.expected
    assert "/run/secrets/dask-health-notebook" == order.notebook.secret_file
    assert ("prefect", "s3fs>=2026.1") == order.packages
    assert order.object_store is None


def test_a_bucket_is_passed_on_without_a_secret():
    """The workers have the keys; the probe needs none."""
    asked = request(object_store={"bucket": "dask", "endpoint": ""}, notebook=None)
    assert "dask" == Order.parse(job.order(asked, 170)).object_store.bucket
    assert [] == container(asked)["Secrets"]


def test_without_a_notebook_there_is_no_secret():
    """A null notebook is neither asked nor opened."""
    asked = request(notebook=None)
    assert [] == container(asked)["Secrets"]
    assert Order.parse(job.order(asked, 170)).notebook is None


@pytest.mark.parametrize("kind", ["token", "password"])
def test_what_opens_the_notebook_is_mounted(kind):
    """The probe reads it from a file that it is told of."""
    asked = request(notebook=ASKED["notebook"] | {"kind": kind, "cell": True})
    (secret,) = container(asked)["Secrets"]
    assert ("x1", "notebook-1") == (secret["SecretID"], secret["SecretName"])
    order = Order.parse(job.order(asked, 170))
    assert order.notebook.secret_file.endswith(secret["File"]["Name"])
    assert (kind, True) == (order.notebook.kind, order.notebook.cell)


PREFECT = {"api_url": "http://dask_prefect:4200/api", "managed": True}


def test_where_there_is_a_prefect_server_the_probe_has_the_environment_of_work():
    """A server of somebody else's may want a key, which is in it."""
    secret = {"secret_id": "e1", "secret_name": "dask-environment-1"}
    asked = request(notebook=None, prefect=PREFECT | secret)
    (mounted,) = container(asked)["Secrets"]
    assert ("e1", "dask-environment-1") == (mounted["SecretID"], mounted["SecretName"])
    prefect = Order.parse(job.order(asked, 170)).prefect
    assert f"/run/secrets/{mounted['File']['Name']}" == prefect.variables_file
    assert (PREFECT["api_url"], True) == (prefect.api_url, prefect.managed)
    assert Order.parse(job.order(request(), 170)).prefect is None


def test_the_service_is_modest_and_marked():
    """It has limits, no capabilities, no health check of the image, and its role as a label."""
    spec = job.spec(request(), "dask_health-1", 170, NOW)
    limits = spec["task_template"]["Resources"]["Limits"]
    assert {"NanoCPUs": 10**9, "MemoryBytes": 512 * 2**20} == limits
    assert ["ALL"] == spec["task_template"]["ContainerSpec"]["CapabilityDrop"]
    assert ["NONE"] == spec["task_template"]["ContainerSpec"]["Healthcheck"]["Test"]
    assert "health" == spec["labels"]["dask.swarm/role"]


def leftovers(ends_at, *tasks, name="dask_health-1"):
    labels = {"dask.swarm/deadline": str(int(ends_at))}
    services = {name: {"ID": "s1", "Spec": {"Labels": labels}}}
    return job.leftovers(Snapshot(services=services, tasks=tasks), NOW)


def task(state, timestamp):
    return {"ServiceID": "s1", "Status": {"State": state, "Timestamp": timestamp}}


def test_a_service_past_its_deadline_is_left_over():
    """Its launcher has given up long ago, whatever its task does."""
    assert ["dask_health-1"] == leftovers(NOW - 100, task("running", "2027-01-15T07:00:00Z"))


@pytest.mark.parametrize("digits", ["", ".1", ".123456789"])
def test_a_service_that_ended_a_while_ago_is_left_over(digits):
    """Its launcher was killed, and so was what guards it."""
    ended = task("complete", f"2027-01-15T07:59:00{digits}Z")
    assert ["dask_health-1"] == leftovers(NOW + 100, ended)


def test_services_in_use_are_left_alone():
    """One may have no task yet, a running one, or one whose result is just being read."""
    assert [] == leftovers(NOW + 100)
    assert [] == leftovers(NOW + 100, task("running", "2027-01-15T07:00:00Z"))
    assert [] == leftovers(NOW + 100, task("complete", "2027-01-15T07:59:50.5Z"))


def test_services_of_others_are_left_alone():
    """The role alone does not make a service ours."""
    assert [] == leftovers(NOW - 100, name="my-health")
