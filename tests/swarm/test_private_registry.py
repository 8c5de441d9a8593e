"""A login on the machine that deploys is enough for every node, and its password stays hidden.

The images are indexes, as those of most registries, also with an entry for arm64 and attestations.
"""

import base64
import json
import os
import re

import pytest

from tests.conftest import wait_for
from tests.swarm import index, private_registry
from tests.swarm.conftest import (
    RUNNERS,
    cluster_services,
    leftovers,
    task_ids,
    wait_until_gone,
)
from tests.swarm.private_registry import PASSWORD, USER
from tests.swarm.test_preflight import drained

IMAGES = ("image", "notebookImage")
BOTH = {"platform": "linux/amd64,linux/arm64"}
# As `docker login` writes it where a helper keeps the password.
HELPER = """#!/bin/sh
echo '{{"ServerURL": "{host}", "Username": "{user}", "Secret": "{password}"}}'
"""


@pytest.fixture(scope="module")
def private(lab, tmp_path_factory):
    """Return a registry with a password; Docker's logins of these tests are its own."""
    with (
        private_registry.running(lab, tmp_path_factory.mktemp("registry")) as registry,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("DOCKER_CONFIG", str(registry.folder))
        patch.setenv("PATH", f"{registry.folder}:{os.environ['PATH']}")
        yield registry


@pytest.fixture(scope="module")
def config(private, images):
    """Return the config of a small cluster with private images that have other platforms too."""
    named = {key: private.image(index.push(images[key])) for key in IMAGES}
    return named | {"workers": 1, "caddyMode": "none", "proof": "quick"}


@pytest.fixture(scope="module")
def cluster(private, config, deployed):
    """Return a cluster whose images only a login can pull."""
    private.log_in()
    with deployed(RUNNERS[-1], **config) as deployment:
        yield deployment


def workers_node(swarm):
    """Return the node on which the only worker runs, None if it does not run."""
    service = swarm.services.get("dask_worker")
    running = [t for t in service.tasks() if t["Status"]["State"] == "running"]
    wanted = [task for task in running if task["DesiredState"] == "running"]
    return swarm.nodes.get(wanted[0]["NodeID"]) if wanted else None


def test_without_a_login_nothing_is_deployed(private, config, new_deployment, swarm):
    """With a digest too: the nodes could not pull the image, and the message has the command."""
    assert not wait_until_gone(swarm)
    private.log_in()
    digest = swarm.images.get_registry_data(config["image"]).id
    private.log_out()
    deployment = new_deployment("rehearsal")
    deployment.configure(**config | {"image": f"{config['image']}@{digest}"})
    printed = deployment.fail("up")
    assert [*IMAGES] == re.findall(r"- (\w+): 'localhost\S+ cannot be pulled", printed)
    assert 2 == printed.count(f"fix: docker login {private.host}")
    assert not leftovers(swarm)


def test_a_drained_nodes_task_is_pulled_by_another_node(cluster, swarm):
    """The other node has never pulled the image, and gets the login from the service."""
    before = wait_for("worker that runs", lambda: workers_node(swarm))
    with drained(before):
        wait_for("worker on another node", lambda: workers_node(swarm) not in (None, before))


def test_the_digest_of_the_index_is_pinned(cluster, config, swarm):
    """Each node pulls what the index has for it, and tasks stay on nodes of `platform`.

    Nothing else that the index has shows as a change.
    """
    before = {service.name: service.version for service in cluster_services(swarm)}
    cluster.run("up")
    assert before == {service.name: service.version for service in cluster_services(swarm)}
    digests = {swarm.images.get_registry_data(config[key]).id for key in IMAGES}
    templates = [service.attrs["Spec"]["TaskTemplate"] for service in cluster_services(swarm)]
    assert digests == {t["ContainerSpec"]["Image"].partition("@")[2] for t in templates}
    assert [{"amd64", "arm64", "unknown"}] * 3 == [architectures(t) for t in templates]
    assert [{"x86_64"}] * 3 == [required_machines(template) for template in templates]


def test_another_platform_restarts_nothing(cluster, config, swarm):
    """Only where new tasks may run is changed."""
    before = task_ids(swarm)
    cluster.configure(**config | BOTH)
    cluster.run("up")
    assert before == task_ids(swarm)
    templates = [service.attrs["Spec"]["TaskTemplate"] for service in cluster_services(swarm)]
    assert [set()] * 3 == [required_machines(template) for template in templates]


def test_a_credential_helper_changes_nothing(cluster, config, private, swarm):
    """The plan is the same, and an update keeps its service."""
    before = {service.name: (service.id, service.version) for service in cluster_services(swarm)}
    helper = private.folder / "docker-credential-vault"
    helper.write_text(HELPER.format(host=private.host, user=USER, password=PASSWORD))
    helper.chmod(0o755)
    (private.folder / "config.json").write_text(json.dumps({"credsStore": "vault"}))
    cluster.configure(**config | BOTH | {"workers": 2})
    assert not shows_password(cluster.run("up"))
    after = {service.name: (service.id, service.version) for service in cluster_services(swarm)}
    assert [name for name in before if before[name] != after[name]] == ["dask_worker"]
    assert before["dask_worker"][0] == after["dask_worker"][0]


def test_neither_state_nor_swarm_shows_the_password(cluster, swarm):
    """Swarm's API leaves out what a service has of it."""
    files = [path for path in cluster.config_file.parent.rglob("*") if path.is_file()]
    assert not any(shows_password(path.read_text(errors="replace")) for path in files)
    assert not shows_password(json.dumps([s.attrs for s in cluster_services(swarm)]))


def architectures(template):
    """Return the architectures of a service's image."""
    return {platform["Architecture"] for platform in template["Placement"]["Platforms"]}


def required_machines(template):
    """Return the machines that a service's constraints require of its nodes."""
    parts = [rule.partition("==") for rule in template["Placement"]["Constraints"]]
    return {machine for attribute, _, machine in parts if attribute == "node.platform.arch"}


def shows_password(text):
    """Return whether a text has the password, as it is or as Docker's file has it."""
    encoded = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    return PASSWORD in text or encoded in text
