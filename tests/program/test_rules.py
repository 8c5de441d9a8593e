"""Every service and every secret follows these rules, with every config.

The rules repeat on purpose what the components promise: a changed component cannot change them.
"""

import base64
import json
from itertools import product

import pytest
import yaml

from tests.conftest import ROOT

SECRET = "docker:index/secret:Secret"
CONFIG = "docker:index/serviceConfig:ServiceConfig"
COMMAND = "command:local:Command"
SERVICE = "docker:index/service:Service"
PUBLISHED = {"dask_caddy": {80, 443}}
# The inputs that may hold a secret, and only where the engine encrypts them.
ENCRYPTED = {SECRET: {"data"}, CONFIG: {"data"}, COMMAND: {"stdin"}}

PASSWORD = "planted-password"
GENERATED = "t" * 48  # every password that the mocks generate
CADDIES = {
    "external": {},
    "external, delivered": {"caddyDirectory": "/srv/sites"},
    "managed": {"caddyMode": "managed", "acmeEmail": "admin@example.org"},
}
AUTHELIA = {"domain": "example.org", "autheliaPortal": "https://auth.example.org"}
LOGINS = {
    "authelia": AUTHELIA,
    "authelia with an account": AUTHELIA | {"autheliaUser": "me", "autheliaPassword": PASSWORD},
    "basic": {"domain": "example.org", "auth": "basic"},
    "basic with a password": {"domain": "a.localhost", "auth": "basic", "basicPassword": PASSWORD},
    "no login": {"domain": "localhost", "auth": "none"},
}


def dev_stack():
    """Return the config of the dev stack, as the engine passes it to a program."""
    config = yaml.safe_load((ROOT / "Pulumi.dev.yaml").read_text())["config"]
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in config.items()}
    return {key.removeprefix("dask-swarm:"): text for key, text in texts.items()}


STACKS = {
    "dev": dev_stack(),
    "no domain": {},
    "no Caddy": {"caddyMode": "none"},
    "all secrets": {
        "dockerHost": "ssh://deploy@manager",
        "notebookPassword": PASSWORD,
        "s3AccessKey": "AKIAPLANTED",
        "s3SecretKey": PASSWORD,
        "prefect": "managed",
    },
} | {
    f"{caddy}, {login}": CADDIES[caddy] | LOGINS[login]
    for caddy, login in product(CADDIES, LOGINS)
}
PROGRAMS = {}


@pytest.fixture(params=STACKS)
def program(request, run):
    """Return what the program declares for a stack; it runs once a stack."""
    stack = request.param
    if stack not in PROGRAMS:
        PROGRAMS[stack] = run(**STACKS[stack])
    return PROGRAMS[stack]


@pytest.fixture
def services(program):
    """Return the inputs of all services by their Swarm names."""
    services = {service.inputs["name"]: service.inputs for service in program.of_type(SERVICE)}
    assert {"dask_scheduler", "dask_worker", "dask_notebook"} <= services.keys()
    return services


@pytest.fixture
def containers(services):
    """Return the container spec of all services by their Swarm names."""
    return {name: inputs["taskSpec"]["containerSpec"] for name, inputs in services.items()}


def test_every_service_has_limits(services):
    """No service can take all CPUs or all memory of a node."""
    for name, inputs in services.items():
        limits = inputs["taskSpec"]["resources"]["limits"]
        assert limits["nanoCpus"] > 0, name
        assert limits["memoryBytes"] > 0, name


def test_every_service_has_a_health_check(containers):
    """Swarm replaces a task that hangs."""
    for name, container in containers.items():
        assert container["healthcheck"]["tests"][0] in ("CMD", "CMD-SHELL"), name


def test_every_image_is_pinned(containers):
    """All tasks run the image that the deployment was proven with."""
    for name, container in containers.items():
        image, _, digest = container["image"].partition("@")
        tag = image.rpartition("/")[2].partition(":")[2]
        assert digest.startswith("sha256:"), name
        assert tag != "latest", name


def test_only_caddy_publishes_ports(services):
    """Caddy is the only way in from outside, at its two ports."""
    for name, inputs in services.items():
        ports = inputs["endpointSpec"].get("ports", [])
        published = {port.get("publishedPort") or port["targetPort"] for port in ports}
        assert published <= PUBLISHED.get(name, set()), name


def test_every_service_drops_all_capabilities(containers):
    """Code from a notebook gets no privilege of the kernel."""
    assert {name: ["ALL"] for name in containers} == {
        name: container.get("capDrops") for name, container in containers.items()
    }


def text_of(resource, key):
    """Return an input as text; the content of a config or secret, not its base64."""
    value = resource.inputs[key]
    is_content = resource.type in (SECRET, CONFIG) and key == "data"
    return base64.b64decode(value).decode() if is_content else json.dumps(value)


def test_a_secret_is_only_where_the_engine_encrypts_it(program):
    """No environment variable, argument, label or plain config shows it."""
    readable = [
        f"{resource.name}: {key}"
        for resource in program.resources
        for key in resource.inputs
        if key not in ENCRYPTED.get(resource.type, set()) & resource.secret
        and any(secret in text_of(resource, key) for secret in (PASSWORD, GENERATED))
    ]
    assert [] == readable
