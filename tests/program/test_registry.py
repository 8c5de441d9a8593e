"""The provider gets the logins of private registries, and no resource shows a password."""

import base64
import json

import pytest

PROVIDER = "pulumi:providers:docker"
HUB = "https://index.docker.io/v1/"
PASSWORD = "planted-password"


@pytest.fixture
def program(run, tmp_path, monkeypatch):
    """Return a function that runs the program on a machine with two logins."""
    login = {"auth": base64.b64encode(f"robot:{PASSWORD}".encode()).decode()}
    config = {"auths": {"registry.example.org:5000": login, HUB: login}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return lambda *logins: run(found={"logins": logins})


def provider_of(program):
    """Return the only provider."""
    (provider,) = program.of_type(PROVIDER)
    return provider


def test_without_a_private_registry_the_provider_has_no_logins(program):
    """The state of existing stacks stays as it is."""
    assert "registryAuth" not in provider_of(program()).inputs


def test_the_provider_reads_the_login_from_dockers_file(program, tmp_path):
    """So the state holds no password, and a new one is no change."""
    provider = provider_of(program("registry.example.org:5000"))
    login = {"address": "registry.example.org:5000", "configFile": f"{tmp_path}/config.json"}
    assert [login] == json.loads(provider.inputs["registryAuth"])


def test_the_login_at_docker_hub_is_encrypted(program):
    """No file has a login for a namespace, so the provider needs the password itself."""
    provider = provider_of(program("team"))
    login = {"address": "team", "username": "robot", "password": PASSWORD}
    assert [login] == json.loads(provider.inputs["registryAuth"])
    assert "registryAuth" in provider.secret


def test_no_other_resource_has_the_password(program):
    """Swarm keeps it beside the service, where `docker inspect` does not show it."""
    shown = program("registry.example.org:5000", "team")
    others = [r for r in shown.resources if r.type != PROVIDER]
    assert PASSWORD not in repr(others)
    assert all("auth" not in service.inputs for service in others)
