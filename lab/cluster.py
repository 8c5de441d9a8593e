"""The three-node lab as a whole: up, down, and its state."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from shutil import rmtree

from docker.errors import DockerException
from requests.exceptions import RequestException

from lab import network, processes, single, swarm
from lab.debian import BASE, ensure_base, ensure_engine, ensure_packages, let_services_start
from lab.engine import connect, start_engines
from lab.images import STEP_SECONDS, Image, copy, current_images, is_pulled, publish, pull
from lab.layout import STATE, Lab, Node
from lab.services import start_services
from lab.shell import LabError, only_one, run, say, step

_MODULES = ("overlay", "veth", "vxlan")
_READY = "active, images current"


def up(lab: Lab) -> None:
    """Bring up what is missing; `LabError` says what failed."""
    ensure_packages()
    with step("three nodes"):
        ensure_nodes(lab)
    provide_images(lab)


def down(lab: Lab) -> None:
    """Remove every trace of a lab in any state; `LabError` when something stays."""
    let_services_start()
    single.unlink_socket(lab.directory)
    processes.end(lab.cgroup)
    network.remove_network(lab)
    processes.remove_cgroups(lab.cgroup)
    if lab.directory.exists():
        with step(f"removing {lab.directory}"):
            rmtree(lab.directory)


def provide_images(lab: Lab) -> None:
    """Build what changed, and have every node pull what it lacks; `LabError` if that fails."""
    if not network.is_complete(lab):
        raise LabError("the lab is not up. Run `python -m lab up`, which provides the images too")
    images = current_images(lab.registry, BASE)
    if any(not image.published() for image in images):
        # One lab at a time: a second lab takes what the usual lab has built.
        with only_one(STATE / "dask-swarm-images"):
            _provide(lab, [image for image in images if not image.published()])
    with step("images on every node"), ThreadPoolExecutor() as pool:
        list(pool.map(lambda node: _pull(node, images), lab.nodes))


def check(lab: Lab) -> None:
    """Print the state of the nodes; `LabError` when a node is not ready for a deployment."""
    images = current_images(lab.registry, BASE)
    states = {node: _state(node, images) for node in lab.nodes}
    print(f"manager {lab.docker_host}, registry {lab.registry}")
    for node, state in states.items():
        print(f"{node.hostname:<12} {node.role:<12} {node.address:<12} {state}")
    if unready := [node.hostname for node, state in states.items() if state != _READY]:
        raise LabError(f"not ready: {', '.join(unready)}. Run `python -m lab up`")


def _state(node: Node, images: Sequence[Image]) -> str:
    try:
        with connect(node.docker_host, seconds=5) as engine:
            membership = str(swarm.membership(engine)["LocalNodeState"])
            missing = [image.repository for image in images if not is_pulled(engine, image)]
    except (DockerException, RequestException):
        return "engine down"
    images_state = f"lacks {', '.join(missing)}" if missing else "images current"
    return f"{membership}, {images_state}"


def _provide(lab: Lab, images: Sequence[Image]) -> None:
    start_engines([lab.builder], bridge="none", iptables=False)
    try:
        with connect(lab.builder.docker_host, seconds=STEP_SECONDS) as engine:
            if missing := [image for image in images if not copy(engine, image, Lab().registry)]:
                base = ensure_base(engine, lab.builder.directory / "base")
                publish(engine, missing, base)
    finally:
        processes.end(lab.builder.cgroup)


def _pull(node: Node, images: Sequence[Image]) -> None:
    with connect(node.docker_host, seconds=STEP_SECONDS) as engine:
        for image in images:
            if not is_pulled(engine, image):
                pull(engine, image)
                say(f"{node.name} has pulled {image.reference}")


def ensure_nodes(lab: Lab) -> None:
    """Start what is down: network, engines, services and Swarm; `LabError` says what failed."""
    _load_modules()
    network.ensure_network(lab)
    if lab.engine:
        ensure_engine(lab.debian)
    start_engines(lab.nodes, dns=[lab.name_server])
    start_services(lab)  # second: the start of an engine ends what is left of its node
    swarm.form(lab.nodes)


def _load_modules() -> None:
    """A kernel may have them built in, or have no modules; the engine says what it misses."""
    for module in _MODULES:
        with suppress(LabError):
            run(["modprobe", "--quiet", module], seconds=10)
