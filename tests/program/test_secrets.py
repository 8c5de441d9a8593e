"""Known values for every secret: none is where people, logs or `docker inspect` can see it."""

import base64
import json
from contextlib import suppress
from dataclasses import replace
from itertools import product

import pytest

from caddy.install import InstallRequest
from config.problems import ConfigError
from config.settings import declared_settings, parse_settings
from health.ingress import IngressRequest
from tests.hostile import DEFAULTS, HOSTILE, KEYS
from tests.program.conftest import Program

CONFIG = "docker:index/serviceConfig:ServiceConfig"
SECRET = "docker:index/secret:Secret"
SERVICE = "docker:index/service:Service"
COMMAND = "command:local:Command"
PASSWORD = "random:index/randomPassword:RandomPassword"
SECRET_OUTPUTS = {PASSWORD: "result", "tls:index/privateKey:PrivateKey": "privateKeyPem"}
# The only inputs that may hold a secret, and only if the engine encrypts them.
ENCRYPTED = {
    (SECRET, "data"),
    (COMMAND, "stdin"),
    ("tls:index/certRequest:CertRequest", "privateKeyPem"),
    ("tls:index/selfSignedCert:SelfSignedCert", "privateKeyPem"),
    ("tls:index/locallySignedCert:LocallySignedCert", "caPrivateKeyPem"),
}
MARK = "planted"
BCRYPT = "$2b$"  # begins a hash, by which a password can be guessed

SECRETS = {
    "notebookPassword": f"{MARK}-notebook",
    "basicPassword": f"{MARK}-basic",
    "autheliaPassword": f"{MARK}-authelia",
    "s3SecretKey": f"{MARK}/s3+key=",
    "pipConfig": json.dumps({"index-url": f"https://me:{MARK}-pip@pypi.example.org/simple"}),
    "environment": json.dumps({"API_KEY": f"{MARK}-variable", "NUMBER": 1}),
}
STACK = {
    "domain": "example.org",
    "acmeEmail": "admin@example.org",
    "caddyDirectory": "/srv/sites",
    "autheliaPortal": "https://auth.example.org",
    "autheliaUser": "me",
    "s3AccessKey": f"AKIA{MARK}",
    "prefect": "managed",
}
WITH_PASSWORDS = STACK | SECRETS
GENERATED = WITH_PASSWORDS | {"notebookPassword": "", "basicPassword": ""}
STACKS = {
    f"{caddy}, {auth}, notebook asks: {asks}, {name} passwords": config
    | {"caddyMode": caddy, "auth": auth, "notebookLogin": asks}
    for caddy, auth, asks, (name, config) in product(
        ("managed", "external"),
        ("authelia", "basic"),
        ("true", "false"),
        {"chosen": WITH_PASSWORDS, "generated": GENERATED}.items(),
    )
}


class PlantedProgram(Program):
    """A program whose generated passwords and keys have known values."""

    def record(self, resource):
        """Keep a resource, and generate a password or a key that names it."""
        made = super().record(resource)
        planted = SECRET_OUTPUTS.get(resource.type)
        if not planted:
            return made
        return replace(made, outputs=made.outputs | {planted: f"{MARK}-{resource.name}"})


@pytest.fixture(scope="module")
def programs():
    """Return the programs that have run, by the name of their stack."""
    return {}


@pytest.fixture(params=STACKS)
def program(request, run, programs):
    """Return what the program declares for a stack with planted secrets; it runs once a stack."""
    stack = request.param
    if stack not in programs:
        programs[stack] = run(program=PlantedProgram(), **STACKS[stack])
    return programs[stack]


def texts(value):
    """Yield every text of a JSON value, its keys too, and what a text in base64 holds."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from (key, *texts(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    else:
        yield str(value)
        with suppress(ValueError):
            yield base64.b64decode(str(value), validate=True).decode()


def shows_secret(value):
    """Return whether a value holds a planted secret or a password's hash."""
    return any(MARK in text or BCRYPT in text for text in texts(value))


def test_every_secret_setting_is_planted():
    """A new secret key needs a value here."""
    assert {setting.key for setting in declared_settings() if setting.secret} < SECRETS.keys()


def test_the_secrets_reach_the_services_that_need_them(program):
    """Otherwise these tests would find nothing anywhere."""
    data = [text for secret in program.of_type(SECRET) for text in texts(secret.inputs["data"])]
    for needed in (
        "-pip",
        "-variable",
        "/s3+key=",
        "-notebook",
        "-front-key",
        "-front-prefect-key",
    ):
        assert any(MARK + needed in text.replace("dask-", "") for text in data), needed
    stdin = [command.inputs["stdin"] for command in program.of_type(COMMAND)]
    assert any(MARK in text for text in stdin)


def test_no_name_or_plain_input_shows_a_secret(program):
    """The engine prints names and plain inputs in diffs, logs and the graph."""
    shown = [
        f"{resource.key}: {key}"
        for resource in program.resources
        for key, value in resource.inputs.items()
        if shows_secret([resource.name, value]) and key not in resource.secret
    ]
    assert [] == shown


def test_no_container_and_no_command_line_shows_a_secret(program):
    """`docker inspect` and `ps` show them, encrypted in the state or not."""
    shown = [
        f"{resource.key}: {key}"
        for resource in program.resources
        for key, value in resource.inputs.items()
        if resource.type != CONFIG and (resource.type, key) not in ENCRYPTED
        if shows_secret(value)
    ]
    assert [] == shown


def test_no_swarm_config_holds_a_secret(program):
    """Each user of a manager reads configs: Caddy's has a hash of the password, nothing else."""
    for config in program.of_type(CONFIG):
        assert not any(MARK in text for text in texts(config.inputs["data"])), config.name


def test_no_plain_output_shows_a_secret(program):
    """`pulumi stack output` prints the others."""
    for name, value in program.outputs.items():
        assert name in program.secret_outputs or not shows_secret(value), name


def test_no_program_shows_its_request(program):
    """A traceback or a log of a request shows no secret."""
    requests = {"caddy.install": lambda t: InstallRequest(**json.loads(t))}
    requests["health.ingress"] = IngressRequest.parse
    for command in program.of_type(COMMAND):
        module = (command.inputs.get("create") or "").partition(" -m ")[2].partition(" ")[0]
        if "stdin" in command.secret:
            assert not shows_secret(repr(requests[module](command.inputs["stdin"]))), module


def test_settings_show_no_secret():
    """A traceback shows them."""
    settings = parse_settings(DEFAULTS | WITH_PASSWORDS, SECRETS, {})
    assert MARK not in repr(settings).replace(STACK["s3AccessKey"], "")


def message_of(config, encrypted):
    """Return the error of a config, empty if it is valid."""
    try:
        parse_settings(DEFAULTS | config, encrypted, {})
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("key", KEYS)
def test_no_problem_of_another_key_shows_a_secret(key):
    """With any value of any key, a refusal shows none of the secrets beside it."""
    config = WITH_PASSWORDS | {"s3AccessKey": "AKIA1"}
    assert MARK not in "".join(message_of(config | {key: text}, SECRETS) for text in HOSTILE)


@pytest.mark.parametrize("key", SECRETS)
def test_no_problem_of_a_secret_shows_it(key):
    """A secret that is not valid, or in plain text, is not repeated."""
    config, refused = STACK | {"s3AccessKey": "AKIA1"}, 0
    for hostile in HOSTILE:
        objects = [json.dumps({"A B": MARK + hostile}), json.dumps({"A": [MARK, hostile]})]
        for text in (MARK + hostile, hostile + MARK, *objects):
            message = message_of(config | {key: text}, SECRETS)
            assert MARK not in message
            refused += bool(message)
    assert refused


@pytest.mark.parametrize("key", sorted(SECRETS.keys() - {"environment"}))
def test_no_problem_of_a_plain_secret_shows_it(key):
    """It may be on a terminal that others see."""
    message = message_of(STACK | {"s3AccessKey": "AKIA1", key: SECRETS[key]}, ())
    assert "the value is in plain text" in message
    assert MARK not in message
