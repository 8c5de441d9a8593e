"""Each rule of a preview finds its breach, and the program as it is breaks none."""

import copy

import pytest

from preview.registered import Resource
from preview.rules import findings

SERVICE = {
    "name": "dask_worker",
    "labels": [{"label": "dask.swarm/revision", "value": "1"}],
    "endpointSpec": {"mode": "dnsrr"},
    "taskSpec": {
        "containerSpec": {
            "image": "registry:5000/dask-swarm:1@sha256:0",
            "args": ["dask", "worker"],
            "env": {"A": "1"},
            "capDrops": ["ALL"],
            "healthcheck": {"tests": ["CMD", "true"]},
        },
        "resources": {"limits": {"nanoCpus": 1, "memoryBytes": 1}},
    },
}


def service(change=lambda *_: None):
    """Return a service that keeps all rules but what `change` does to it."""
    inputs = copy.deepcopy(SERVICE)
    change(inputs, inputs["taskSpec"]["containerSpec"])
    return Resource(type="docker:index/service:Service", name="workers", inputs=inputs)


def port(number, name="dask_caddy"):
    """Return what publishes a port."""
    ports = {"ports": [{"targetPort": number, "publishedPort": number}]}
    return lambda inputs, _: inputs.update(name=name, endpointSpec=ports)


def test_a_service_that_keeps_them_is_not_mentioned():
    """Nothing to say is an empty list."""
    assert [] == findings([service()])


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda i, _: i["taskSpec"].pop("resources"), "it has no limit of CPU"),
        (
            lambda i, _: i["taskSpec"]["resources"]["limits"].pop("memoryBytes"),
            "it has no limit of memory",
        ),
        (lambda _, c: c.pop("healthcheck"), "it has no health check"),
        (lambda _, c: c.update(healthcheck={"tests": ["NONE"]}), "it has no health check"),
        (lambda _, c: c.update(image="registry:5000/dask"), "its image registry:5000/dask is"),
        (lambda _, c: c.update(image="dask:latest@sha256:0"), "its image dask:latest@sha256:0"),
        (lambda _, c: c.pop("capDrops"), "it keeps capabilities"),
        (port(8787, name="dask_scheduler"), "it publishes port 8787"),
        (port(2019), "it publishes port 2019"),
        (lambda _, c: c["env"].update(B="generated-token"), "a secret can be read in its task"),
        (lambda _, c: c["args"].append("not-decrypted"), "a secret can be read in its task"),
        (
            lambda i, _: i["labels"].append({"label": "x", "value": "not-decrypted"}),
            "a secret can be read in its labels",
        ),
    ],
)
def test_a_broken_rule_is_told(change, finding):
    """The service is named, and what is wrong with it."""
    found = findings([service(change)])
    assert any(each.startswith(f"workers: {finding}") for each in found)


@pytest.mark.parametrize("number", [80, 443])
def test_only_caddy_publishes(number):
    """Its two ports are the way in."""
    assert [] == findings([service(port(number))])
    assert 1 == len(findings([service(port(number, name="dask_notebook"))]))


@pytest.mark.parametrize(
    ("secret", "expected"), [({"stdin"}, []), ((), ["run: a secret can be read in its stdin"])]
)
def test_a_secret_has_its_path_and_no_other(secret, expected):
    """On standard input it may go, but only where the engine encrypts it."""
    command = Resource(
        type="command:local:Command",
        name="run",
        inputs={"stdin": '{"password": "generated-password"}'},
        secret=frozenset(secret),
    )
    assert expected == findings([command])


def test_a_secret_in_an_environment_is_told_wherever_it_is():
    """Encrypted in the state, an environment is still for everybody on the node to read."""
    command = Resource(
        type="command:local:Command",
        name="run",
        inputs={"environment": {"TOKEN": "generated-token"}},
        secret=frozenset({"environment"}),
    )
    assert ["run: a secret can be read in its environment"] == findings([command])
