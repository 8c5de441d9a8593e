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
GENERATED_PASSWORD = "random:index/randomPassword:RandomPassword"
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


@pytest.fixture(params=STACKS)
def program(request, run):
    """Return what the program declares for a stack."""
    return run(**STACKS[request.param])


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


def test_every_secret_is_readable_for_the_containers_user_and_group_only(containers):
    """Another user in a container cannot read a password or key."""
    for name, container in containers.items():
        modes = {secret["fileMode"] for secret in container.get("secrets", [])}
        assert modes <= {0o440}, name


def test_nobody_can_write_to_a_config(containers):
    """A process in a container cannot change its own settings."""
    for name, container in containers.items():
        modes = {config["fileMode"] for config in container.get("configs", [])}
        assert modes <= {0o444}, name


def test_every_service_starts_again_after_any_end(services):
    """No task stays away because it ended with the exit status of success."""
    for name, inputs in services.items():
        assert "any" == inputs["taskSpec"]["restartPolicy"]["condition"], name


def test_every_log_is_rotated(services):
    """A task that prints without end does not fill its node's disk."""
    for name, inputs in services.items():
        options = inputs["taskSpec"]["logDriver"]["options"]
        assert {"max-size": "10m", "max-file": "3"} == options, name


def test_a_failed_update_goes_back_and_a_failed_rollback_stops(services):
    """No failure lets Swarm replace the next tasks, which still work."""
    for name, inputs in services.items():
        for key, action in (("updateConfig", "rollback"), ("rollbackConfig", "pause")):
            assert action == inputs[key]["failureAction"], name
            assert 0 == float(inputs[key]["maxFailureRatio"]), name


def test_an_update_never_replaces_all_tasks_at_once(services):
    """For Swarm a parallelism of 0 means all tasks."""
    for name, inputs in services.items():
        for key in ("updateConfig", "rollbackConfig"):
            assert inputs[key]["parallelism"] >= 1, name


def test_a_slow_start_or_a_busy_task_is_not_killed(containers):
    """Images may install packages at start; a computation may hold the interpreter's lock."""
    for name, container in containers.items():
        check = container["healthcheck"]
        assert ("5m", "30s", 12) == (check["startPeriod"], check["timeout"], check["retries"]), (
            name
        )


def test_no_generated_password_can_be_guessed(program):
    """24 letters and digits are 142 bits, and all that people do not type are longer."""
    lengths = {
        password.name: password.inputs["length"]
        for password in program.of_type(GENERATED_PASSWORD)
    }
    assert {name: 24 if name == "front-password" else 48 for name in lengths} == lengths
    salts = [r for r in program.of_type("random:index/randomId:RandomId") if "salt" in r.name]
    assert all(16 == salt.inputs["byteLength"] for salt in salts)


def test_the_destroy_begins_with_the_shutdown(program):
    """It waits for every service, so the engine deletes it before them."""
    services = {service.name for service in program.of_type(SERVICE)}
    waits_for = program.dependencies("dask-shutdown-run")
    assert services == {name for name in waits_for if "network" not in name}
    assert not any(
        "dask-shutdown-run" in program.dependencies(resource.name)
        for resource in program.resources
    )


def test_the_ingress_proof_waits_for_the_sites_and_for_the_cluster(program):
    """Before, Caddy serves the old file or none."""
    names = {resource.name for resource in program.resources}
    if "front-proof-run" in names:
        waits = {"front-delivery", "front-caddy", "front-reloader", "dask-health-run"} & names
        assert len(waits) > 1
        assert waits <= program.dependencies("front-proof-run")


def test_every_proof_runs_again_with_its_attempt(program):
    """Otherwise a changed cluster or ingress would stay unproven."""
    proofs = {"dask-health-run", "front-proof-run"}
    for command in program.of_type(COMMAND):
        if command.name in proofs:
            attempt = f"{command.name.removesuffix('-run')}-attempt"
            assert ["0123456789abcdef" * 2] == command.inputs["triggers"]
            assert attempt in program.dependencies(command.name)


def test_every_program_ends_with_a_cancelled_run_and_shows_no_output(program):
    """A shell in between would be killed alone; an output may be read by other programs."""
    for command in program.of_type(COMMAND):
        lines = [
            command.inputs[event] for event in ("create", "delete") if event in command.inputs
        ]
        assert lines, command.name
        assert all(line.startswith("exec .venv/bin/python -m ") for line in lines)
        assert command.inputs["addPreviousOutputInEnv"] is False
        assert "stderr" == command.inputs["logging"]


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
