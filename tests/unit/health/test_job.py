"""The probe's service: its arguments, its limits, and its leftovers."""

import base64
import bz2
import json

import pytest

from health import job
from health.probe.messages import Expected, ProbeRequest
from health.request import Request
from swarm.snapshot import Snapshot
from tests.unit.health.test_request import REQUEST

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z


def request(**changes):
    return Request.parse(json.dumps(REQUEST | changes))


def container(launcher_request):
    return job.spec(launcher_request, "dask_health-1", 170, NOW)["task_template"]["ContainerSpec"]


def probe_request(launcher_request):
    return ProbeRequest.parse(container(launcher_request)["Args"][-1])


def test_the_program_is_an_argument():
    """Only the service must be cleaned up, and the image keeps its entrypoint."""
    arguments = container(request())["Args"]
    assert ["python", "-c"] == arguments[:2]
    assert b"def prove(" in bz2.decompress(base64.b64decode(arguments[3]))
    assert container(request())["Command"] is None


def test_the_probe_runs_where_its_image_does():
    """A node of the right label may have another architecture."""
    placement = job.spec(request(), "dask_health-1", 170, NOW)["task_template"]["Placement"]
    assert ["node.labels.role==master"] == placement["Constraints"]
    assert [
        {"OS": "linux", "Architecture": architecture} for architecture in ("amd64", "arm64")
    ] == placement["Platforms"]


def test_the_probe_has_the_packages_of_the_notebook():
    """The official images install them at start, and the probe compares their versions."""
    assert ["EXTRA_PIP_PACKAGES=prefect s3fs>=2026.1"] == container(request())["Env"]
    assert "Env" not in container(request(packages=[]))


def test_the_probe_is_not_root_and_writes_to_volumes_only():
    """The volumes have no name, so they go with the container."""
    spec = container(request(packages=[]))
    assert ("1000:1000", True, ["ALL"]) == (
        spec["User"], spec["ReadOnly"], spec["CapabilityDrop"],
    )  # fmt: skip
    mounts = [(mount["Type"], mount["Source"], mount["Target"]) for mount in spec["Mounts"]]
    assert [("volume", None, "/tmp"), ("volume", None, "/home/jovyan")] == mounts


def test_packages_are_installed_by_the_images_user_into_the_image():
    """The official images do so."""
    spec = container(request())
    assert "User" not in spec
    assert spec["ReadOnly"] is False


def test_only_the_images_usual_users_read_the_secret():
    """User 1000, and a root without capabilities by its group."""
    (secret,) = container(request())["Secrets"]
    file = secret["File"]
    assert ("1000", "0", 0o440) == (file["UID"], file["GID"], file["Mode"])


def test_the_program_can_read_its_request():
    """Launcher and probe agree on its form; its deadline is the remaining time."""
    probe = probe_request(request())
    assert Expected(workers=4, threads=4, memory_bytes=4 * 2**30) == probe.expected
    assert "/run/secrets/dask-health-notebook" == probe.notebook.secret_file
    assert ("prefect", "s3fs>=2026.1") == probe.packages
    assert probe.object_store is None
    assert 170 == probe.deadline_seconds


def test_a_bucket_is_passed_on_without_a_secret():
    """The workers have the keys; the probe needs none."""
    launcher_request = request(object_store={"bucket": "dask", "endpoint": ""}, notebook=None)
    assert "dask" == probe_request(launcher_request).object_store.bucket
    assert [] == container(launcher_request)["Secrets"]


def test_without_a_notebook_there_is_no_secret():
    """The probe does not log in to a null notebook."""
    launcher_request = request(notebook=None)
    assert [] == container(launcher_request)["Secrets"]
    assert probe_request(launcher_request).notebook is None


@pytest.mark.parametrize("kind", ["token", "password"])
def test_the_secret_of_the_notebook_is_mounted(kind):
    """The probe's request has its file."""
    launcher_request = request(notebook=REQUEST["notebook"] | {"kind": kind, "cell": True})
    (secret,) = container(launcher_request)["Secrets"]
    assert ("x1", "notebook-1") == (secret["SecretID"], secret["SecretName"])
    notebook = probe_request(launcher_request).notebook
    assert notebook.secret_file.endswith(secret["File"]["Name"])
    assert (kind, True) == (notebook.kind, notebook.cell)
    # The images have different users, and nothing else runs in the container.
    assert 0o440 == secret["File"]["Mode"]


PREFECT = {"api_url": "http://dask_prefect:4200/api", "managed": True}


def test_with_a_prefect_server_the_probe_has_the_environment_of_the_deployment():
    """It may contain the key of an external server."""
    secret = {"secret_id": "e1", "secret_name": "dask-environment-1"}
    launcher_request = request(notebook=None, prefect=PREFECT | secret)
    (mounted,) = container(launcher_request)["Secrets"]
    assert ("e1", "dask-environment-1") == (mounted["SecretID"], mounted["SecretName"])
    prefect = probe_request(launcher_request).prefect
    assert f"/run/secrets/{mounted['File']['Name']}" == prefect.variables_file
    assert (PREFECT["api_url"], True) == (prefect.api_url, prefect.managed)
    assert probe_request(request()).prefect is None


@pytest.mark.parametrize(("caddys", "networks"), [("n2", ["n1", "n2"]), (None, ["n1"])])
def test_the_probe_is_on_the_networks_of_its_targets(caddys, networks):
    """It looks names up on the cluster's network first: Caddy's may have the same."""
    spec = job.spec(request(caddy_network_id=caddys), "dask_health-1", 170, NOW)
    template = spec["task_template"]
    assert networks == [network["Target"] for network in template["Networks"]]
    resolver = template["ContainerSpec"]["DNSConfig"]
    assert (["dask-network"], True) == (resolver["Search"], "ndots:1" in resolver["Options"])


def test_the_service_has_limits_and_a_label():
    """It has no capabilities, and does not run the image's health check."""
    spec = job.spec(request(), "dask_health-1", 170, NOW)
    limits = spec["task_template"]["Resources"]["Limits"]
    assert {"NanoCPUs": 10**9, "MemoryBytes": 512 * 2**20} == limits
    assert ["ALL"] == spec["task_template"]["ContainerSpec"]["CapabilityDrop"]
    restarts = spec["task_template"]["RestartPolicy"]
    assert ("on-failure", 2) == (restarts["Condition"], restarts["MaxAttempts"])
    assert ["NONE"] == spec["task_template"]["ContainerSpec"]["Healthcheck"]["Test"]
    assert "health" == spec["labels"]["dask.swarm/role"]


def leftovers(ends_at, *tasks, name="dask_health-1"):
    labels = {"dask.swarm/deadline": str(int(ends_at))}
    services = {name: {"ID": "s1", "Spec": {"Labels": labels}}}
    return job.leftovers(Snapshot(services=services, tasks=tasks), "dask", NOW)


def task(state, timestamp):
    return {"ServiceID": "s1", "Status": {"State": state, "Timestamp": timestamp}}


def test_a_service_past_its_deadline_is_left_over():
    """Its launcher has given up long ago."""
    assert ["dask_health-1"] == leftovers(NOW - 100, task("running", "2027-01-15T07:00:00Z"))


@pytest.mark.parametrize("digits", ["", ".1", ".123456789"])
def test_a_service_that_ended_a_while_ago_is_left_over(digits):
    """Its launcher and its reaper were killed."""
    ended = task("complete", f"2027-01-15T07:59:00{digits}Z")
    assert ["dask_health-1"] == leftovers(NOW + 100, ended)


def test_services_in_use_are_left_alone():
    """It may have no task yet, a running task, or a task whose result is being read."""
    assert [] == leftovers(NOW + 100)
    assert [] == leftovers(NOW + 100, task("running", "2027-01-15T07:00:00Z"))
    read = task("complete", "2027-01-15T07:59:50.5Z")
    assert [] == leftovers(NOW + 100, read)
    assert [] == leftovers(NOW + 100, task("failed", "2027-01-15T07:59:00Z"), read)


@pytest.mark.parametrize("ends_in", [10, 0, -10])
def test_a_service_near_its_deadline_is_left_alone(ends_in):
    """Its launcher still reads its last lines, and clocks differ."""
    assert [] == leftovers(NOW + ends_in, task("running", "2027-01-15T07:00:00Z"))


def test_services_with_other_names_are_left_alone():
    """The label alone does not make a service a probe."""
    for name in ("my-health", "dask_healthy", "dask_worker", "blue_health-1", "dask-2_health-1"):
        assert [] == leftovers(NOW - 100, name=name)


def test_the_probe_joins_the_other_networks_and_prefers_the_clusters_names():
    """It must reach what the notebook reaches; another network may have a `scheduler` too."""
    spec = job.spec(request(other_network_ids=("2", "3")), "n", 1, 1)["task_template"]
    assert ["2", "3"] == [network["Target"] for network in spec["Networks"]][-2:]
    dns = spec["ContainerSpec"]["DNSConfig"]
    assert (["dask-network"], "ndots:1") == (dns["Search"], dns["Options"][-1])
