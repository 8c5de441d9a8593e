"""The registries that need a login, and this machine's logins for them.

`docker login` keeps logins in a file or in a credential helper. The Docker provider reads them
there at each run, so a plan and a state hold no password. The provider sends the login with each
service that needs it, and Swarm hands it to the nodes that pull.
"""

import os
import pwd
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import docker
from docker import auth
from docker.errors import APIError, DockerException
from docker.utils.config import find_config_file

from config.problems import Problem, ProblemError
from config.types import ImageReference

KEY = "docker login"
HUB = "docker.io"
REFUSED = re.compile(r"(?i)unauthorized|denied|authentication required|no basic auth credentials")
# The provider prefers the user in this variable to Docker's config file.
USER_VARIABLE = "DOCKER_REGISTRY_USER"

Logins = Mapping[str, Mapping[str, str]]


def find_logins(images: Iterable[ImageReference]) -> Logins:
    """Return this machine's logins for images, by how their references begin.

    That is a registry or, for Docker Hub, a namespace. Raises `ProblemError`.
    """
    logins = {_address(image): find_login(_address(image)) for image in images}
    return {address: login for address, login in logins.items() if login}


def needed_logins(
    engine: "docker.APIClient", images: Iterable[ImageReference], logins: Logins
) -> tuple[str, ...]:
    """Return the keys of the logins without which the manager cannot see an image.

    Raises `ProblemError` if the provider cannot send a login.
    """
    private = [i for i in images if _address(i) in logins and not _is_public(engine, i)]
    needed = sorted({_address(image) for image in private})
    for address in needed:
        _check_login(registry_at(address), logins[address])
    return tuple(needed)


def _is_public(engine: "docker.APIClient", image: ImageReference) -> bool:
    try:
        engine.inspect_distribution(str(image), auth_config={})  # type: ignore[no-untyped-call]
    except APIError:
        return False
    return True


def _address(image: ImageReference) -> str:
    return image.repository.partition("/")[0]


def registry_at(address: str) -> str:
    """Return the registry of a reference that begins with `address`."""
    return str(auth.resolve_repository_name(f"{address}/image")[0])


def find_login(address: str) -> Mapping[str, str]:
    """Return this machine's login for a registry or a namespace, empty if there is none."""
    registry = registry_at(address)
    try:
        login = auth.load_config().resolve_authconfig(registry)
    except (DockerException, ValueError, AttributeError) as error:
        problem = Problem(
            key=KEY,
            found=f"the login for {registry} cannot be read ({error})",
            expected="a valid ~/.docker/config.json, and the credential helper that it names",
            fix=f"docker login {registry}",
        )
        raise ProblemError(problem) from None
    return {key.lower(): value for key, value in (login or {}).items() if value}


def _check_login(registry: str, login: Mapping[str, str]) -> None:
    if "identitytoken" in login:
        problem = Problem(
            key=KEY,
            found=f"the login for {registry} is an identity token",
            expected="a user and a password, which is all that Pulumi's Docker provider sends",
            fix=f"docker login {registry}, with a user and an access token of the registry's own",
        )
        raise ProblemError(problem)
    if os.environ.get(USER_VARIABLE):
        problem = Problem(
            key=USER_VARIABLE,
            found=f"set in the environment, and overrides the login for {registry}",
            expected="no value",
            fix=f"unset {USER_VARIABLE} DOCKER_REGISTRY_PASS",
        )
        raise ProblemError(problem)


def refusal(key: str, image: ImageReference, error: APIError) -> Problem | None:
    """Return the problem of an image that its registry shows only with another login, or with any.

    Raises `ProblemError` if this machine's login cannot be read.
    """
    registry = registry_at(_address(image))
    if not REFUSED.search(str(error.explanation)):
        return None
    if find_login(_address(image)):
        state = "its registry does not accept this machine's login for it"
        expected = "a login with the right password, of a user who may read the image"
    else:
        state = "its registry wants a login that this machine does not have"
        expected = "a login on this machine; the nodes get it with each service"
    return Problem(
        key=key,
        found=f"{str(image)!r} cannot be pulled: {state} ({error.explanation})",
        expected=expected,
        fix="docker login" if registry == HUB else f"docker login {registry}",
    )


def config_file() -> str:
    """Return Docker's config file as the provider reads it, if possible without the user's name.

    The provider finds `~` by /etc/passwd.
    """
    path = str(find_config_file())
    with suppress(KeyError, ValueError):
        return f"~/{Path(path).relative_to(pwd.getpwuid(os.getuid()).pw_dir)}"
    return path
