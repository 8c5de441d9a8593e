"""Which logins of this machine an image needs, and which the provider cannot send."""

import base64
import json
from types import SimpleNamespace

import pytest
from docker.errors import APIError

from config.problems import ProblemError
from config.types import image_reference
from swarm import registry

HOST = "registry.example.org:5000"
PRIVATE = image_reference(f"{HOST}/team/dask:1")
AUTH = base64.b64encode(b"robot:planted-password").decode()
LOGIN = {"auths": {HOST: {"auth": AUTH}}}
HUB_LOGIN = {"auths": {"https://index.docker.io/v1/": {"auth": AUTH}}}
HELPER = """#!/bin/sh
read server
test "$server" = {host} || {{ echo credentials not found in native keychain; exit 1; }}
echo '{{"ServerURL": "{host}", "Username": "{user}", "Secret": "planted-password"}}'
"""


class FakeEngine:
    """A manager whose registries refuse some images without a login, and know them with one."""

    def __init__(self, *refused):
        self.refused = refused

    def inspect_distribution(self, image, auth_config):
        assert {} == auth_config
        if image in self.refused:
            raise APIError("unauthorized: authentication required")


@pytest.fixture
def docker_config(tmp_path, monkeypatch):
    """Return a function that writes Docker's config file and returns its path."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def write(content):
        path = tmp_path / "config.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


@pytest.fixture
def helper(tmp_path):
    """Return a function that installs a credential helper with the login of a user."""

    def install(user="robot"):
        path = tmp_path / "docker-credential-vault"
        path.write_text(HELPER.format(host=HOST, user=user))
        path.chmod(0o755)
        return {"credHelpers": {HOST: "vault"}}

    return install


def needed(*images, refused=()):
    """Return the logins that images need."""
    engine = FakeEngine(*map(str, refused))
    return registry.needed_logins(engine, images, registry.find_logins(images))


def problem_of(*images, refused=()):
    """Return the problem of the logins that images need."""
    with pytest.raises(ProblemError) as error:
        needed(*images, refused=refused)
    assert "planted-password" not in str(error.value)
    return error.value.problem


def test_a_machine_without_logins_needs_none(docker_config):
    """The images may be public; the pre-flight checks that."""
    assert () == needed(PRIVATE, image_reference("caddy:2.11.9"), refused=[PRIVATE])


def test_a_login_is_needed_only_for_what_the_registry_refuses(docker_config):
    """A password that is not needed stays on this machine."""
    docker_config(LOGIN)
    public = image_reference(f"{HOST}/public/dask:1")
    assert () == needed(public)
    assert (HOST,) == needed(PRIVATE, public, refused=[PRIVATE])
    assert (HOST,) == needed(public, PRIVATE, refused=[PRIVATE])


def test_a_credential_helper_has_the_login(docker_config, helper):
    """Docker's config file names it, and holds no password."""
    docker_config(helper())
    assert (HOST,) == needed(PRIVATE, refused=[PRIVATE])


def test_a_login_at_docker_hub_is_needed_by_namespace(docker_config):
    """The provider looks at the first part of an image's name, which has no registry there."""
    docker_config(HUB_LOGIN)
    image = image_reference("docker.io/team/dask:1")
    assert ("team",) == needed(image, refused=[image])
    assert "robot" == registry.find_login("team")["username"]


def test_an_identity_token_is_refused(docker_config, helper):
    """The provider would send an empty password."""
    for login in ({"auths": {HOST: {"identitytoken": "planted-password"}}}, helper("<token>")):
        docker_config(login)
        problem = problem_of(PRIVATE, refused=[PRIVATE])
        assert f"the login for {HOST} is an identity token" == problem.found
        assert problem.fix.startswith(f"docker login {HOST}")
        assert () == needed(PRIVATE)


def test_a_user_in_the_environment_is_refused(docker_config, monkeypatch):
    """The provider would send that user with no password."""
    docker_config(LOGIN)
    monkeypatch.setenv(registry.USER_VARIABLE, "other")
    problem = problem_of(PRIVATE, refused=[PRIVATE])
    assert (registry.USER_VARIABLE, "no value") == (problem.key, problem.expected)
    assert () == needed(PRIVATE)


@pytest.mark.filterwarnings("ignore:docker-credential-missing not installed")
@pytest.mark.parametrize(
    "content",
    [
        {"auths": {HOST: "planted-password"}},
        {"auths": {HOST: {"auth": "planted-password"}}},
        "[]",
        {"credHelpers": {HOST: "missing"}},
        {"credsStore": "missing"},
    ],
)
def test_a_login_that_cannot_be_read_is_refused(docker_config, content):
    """Before anything is asked, with the registry and without the file's content."""
    docker_config(content)
    problem = problem_of(PRIVATE)
    assert f"the login for {HOST} cannot be read" in problem.found
    assert f"docker login {HOST}" == problem.fix


@pytest.mark.parametrize(
    ("image", "fix"), [(PRIVATE, f"docker login {HOST}"), ("team/dask:1", "docker login")]
)
@pytest.mark.parametrize(
    "text",
    [
        "unauthorized: authentication required",
        "pull access denied for team/dask, repository does not exist ",
        "Get https://registry.example.org/v2/: no basic auth credentials",
        "denied: requested access to the resource is denied",
    ],
)
def test_a_refused_image_asks_for_a_login(docker_config, image, fix, text):
    """The registries word it differently."""
    error = APIError(text, SimpleNamespace(status_code=403), text)
    problem = registry.refusal("image", image_reference(str(image)), error)
    assert ("image", fix) == (problem.key, problem.fix)
    assert "wants a login that this machine does not have" in problem.found


def test_a_refused_login_is_not_called_missing(docker_config):
    """Its password is wrong or has changed, or its user may not read the image."""
    docker_config(LOGIN)
    text = "unauthorized: authentication required"
    error = APIError(text, SimpleNamespace(status_code=401), text)
    problem = registry.refusal("image", PRIVATE, error)
    assert "its registry does not accept this machine's login for it" in problem.found
    assert f"docker login {HOST}" == problem.fix
    assert "planted-password" not in str(problem)


def test_another_error_is_no_refusal():
    """The manager may have no route to the registry."""
    error = APIError("", SimpleNamespace(status_code=500), "connection refused")
    assert None is registry.refusal("image", PRIVATE, error)


def test_the_config_file_is_named_without_the_user(docker_config, tmp_path, monkeypatch):
    """The state is the same for every user who deploys."""
    path = docker_config(LOGIN)
    assert str(path) == registry.config_file()
    user = SimpleNamespace(pw_dir=str(tmp_path.parent))
    monkeypatch.setattr(registry.pwd, "getpwuid", lambda _: user)
    assert f"~/{tmp_path.name}/config.json" == registry.config_file()
