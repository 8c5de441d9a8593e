"""Make an engine of this machine, a laptop's for example, ready for a deployment.

Owns what a deployment expects of a single-node Swarm: the Swarm itself, a role, Caddy's network,
a registry on `localhost` and the images in it, and the link at the usual place of an engine's
socket, where the dev stack and Docker clients look first. A Swarm of several nodes is not changed.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import docker
from docker.errors import DockerException
from requests.exceptions import RequestException

from lab import context, registry, swarm
from lab.debian import ensure_base, ensure_packages
from lab.engine import answers, connect
from lab.images import STEP_SECONDS, current_images, is_pulled, publish, pull
from lab.shell import LabError, say

_USUAL = Path("/var/run/docker.sock")
_SOCKETS = (
    _USUAL,
    "~/.docker/run/docker.sock",
    "~/.docker/desktop/docker.sock",
)
_LOOPBACK = "127.0.0.1"
_REACH_SECONDS = 15


def find_engine() -> str | None:
    """The address of an engine of this machine that answers, DOCKER_HOST's first.

    Raises `LabError` when DOCKER_HOST names another machine.
    """
    named = os.environ.get("DOCKER_HOST", "")
    if named and not named.startswith(("unix://", "npipe://")):
        raise LabError(
            f"DOCKER_HOST: {named!r} is on another machine. Unset DOCKER_HOST, or prepare that"
            " Swarm as docs/swarm.md describes"
        )
    usual = [f"unix://{Path(socket).expanduser()}" for socket in _SOCKETS]
    return next(filter(answers, [named, *usual] if named else usual), None)


def prepare(address: str, host: str) -> None:
    """Make an engine a single-node Swarm that has all that a deployment needs.

    `host` is the registry's `localhost:<port>`.

    Raises `LabError` when the engine is part of a larger Swarm, or when something cannot be had.
    """
    with connect(address, seconds=STEP_SECONDS) as engine:
        _ensure_swarm(engine, address)
        swarm.ensure_network(engine, swarm.CADDY_NETWORK)
        base = _base(engine, address)
        if not registry.answers(host):
            official = _is_within_reach(engine, address, registry.OFFICIAL)
            registry.start(engine, host, None if official else base)
        _ensure_images(engine, host, base)


def link_socket(address: str) -> None:
    """Make a local engine answer at the usual place too; `LabError` where it cannot."""
    socket = Path(address.removeprefix("unix://"))
    if _USUAL.resolve() == socket.resolve():
        return
    try:
        if _USUAL.is_symlink() and not answers(f"unix://{_USUAL}"):
            _USUAL.unlink()
        _USUAL.symlink_to(socket)
    except OSError as error:
        raise LabError(
            f"the engine at {address} is not at {_USUAL} ({error.strerror}), where the dev stack"
            f" looks for it. Run: pulumi config set --stack dev dockerHost {address}"
        ) from None
    say(f"{_USUAL} leads to {socket}")


def unlink_socket(directory: Path) -> None:
    """Remove the link at the usual place if it leads to a socket below a directory."""
    if _USUAL.is_symlink() and _USUAL.readlink().is_relative_to(directory):
        _USUAL.unlink()


def _ensure_swarm(engine: "docker.APIClient", address: str) -> None:
    membership = swarm.membership(engine)
    match membership["LocalNodeState"]:
        case "inactive":
            say(f"{address}: starting a Swarm of one node, on the loopback only")
            engine.init_swarm(advertise_addr=_LOOPBACK, listen_addr=f"{_LOOPBACK}:2377")
        case "active":
            _refuse_larger(membership, address)
        case state:
            raise LabError(f"the Swarm at {address} is {state}. `docker info` says why")
    (node,) = engine.nodes()
    if "role" not in node["Spec"].get("Labels", {}):
        swarm.label(engine, node["Description"]["Hostname"], "data-worker")


def _refuse_larger(membership: dict[str, Any], address: str) -> None:
    if not membership["ControlAvailable"]:
        raise LabError(
            f"the engine at {address} is a worker in a Swarm. Set the config key dockerHost to the"
            " manager of that Swarm"
        )
    if membership["Nodes"] != 1:
        raise LabError(
            f"the engine at {address} manages a Swarm of {membership['Nodes']} nodes, which is not"
            " changed here. Prepare it as docs/swarm.md describes, then use `pulumi up`"
        )


def _base(engine: "docker.APIClient", address: str) -> str:
    """What the images are built on: BASE_IMAGE, the official Python image, or Debian packages."""
    if named := os.environ.get("BASE_IMAGE"):
        return named
    official = context.default_base()
    if _is_within_reach(engine, address, official):
        return official
    if sys.platform != "linux" or os.geteuid() != 0:
        raise LabError(
            f"the engine cannot pull {official}. Set BASE_IMAGE to an image with Python 3.11 or"
            " 3.12, or run this as root on Debian, where a base image is made from packages"
        )
    ensure_packages(["debootstrap"])
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        return ensure_base(engine, Path(folder) / "base")


def _is_within_reach(engine: "docker.APIClient", address: str, reference: str) -> bool:
    """Whether the engine has an image or can find it in its registry within 15 s."""
    if engine.images(reference):
        return True
    try:
        with connect(address, seconds=_REACH_SECONDS) as quick:
            quick.inspect_distribution(reference)  # type: ignore[no-untyped-call]
    except (DockerException, RequestException):
        return False
    return True


def _ensure_images(engine: "docker.APIClient", host: str, base: str) -> None:
    images = current_images(host, base)
    publish(engine, [image for image in images if not image.published()], base)
    for image in images:
        if not is_pulled(engine, image):
            pull(engine, image)
