"""The three-node lab as a whole: up, down, and how it is."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from shutil import rmtree

from lab import network, processes, swarm, usual_socket
from lab.base import TAG, ensure_base
from lab.engine import connect, start_engines
from lab.images import STEP_SECONDS, Image, is_pulled, publish, pull, wanted
from lab.layout import Lab, Node
from lab.packages import ensure_packages, let_services_start
from lab.services import start_services
from lab.shell import LabError, run, say, step, wait_for

_MODULES = ("overlay", "veth", "vxlan")


def up(lab: Lab) -> None:
    """Bring up what is missing; `LabError` says what would not come."""
    ensure_packages()
    with step("three nodes"):
        _raise_nodes(lab)
    provide_images(lab)


def down(lab: Lab) -> None:
    """Remove every trace, in whatever state the lab is; `LabError` when something stays."""
    let_services_start()
    usual_socket.withdraw(lab.directory)
    processes.end(lab.directory, lab.cgroup)
    network.remove_network(lab)
    _unmount(lab.directory)
    _remove_cgroups(lab.cgroup)
    if lab.directory.exists():
        with step(f"removing {lab.directory}"):
            rmtree(lab.directory)


def provide_images(lab: Lab) -> None:
    """Build what changed, and have every node pull what it lacks; `LabError` if that fails."""
    if not network.is_raised(lab):
        raise LabError("the lab is not up: run `python -m lab up`, it provides the images too")
    images = wanted(lab.registry, TAG)
    if stale := [image for image in images if not image.published()]:
        _build(lab, stale)
    with step("images on every node"), ThreadPoolExecutor() as pool:
        list(pool.map(lambda node: _pull(node, images), lab.nodes))


def _build(lab: Lab, images: Sequence[Image]) -> None:
    start_engines([lab.builder], bridge="none", iptables=False)
    try:
        with connect(lab.builder.docker_host, seconds=STEP_SECONDS) as engine:
            base = ensure_base(engine, lab.builder.directory / "base")
            publish(engine, images, base)
    finally:
        processes.end(lab.builder.directory, lab.builder.cgroup)


def _pull(node: Node, images: Sequence[Image]) -> None:
    with connect(node.docker_host, seconds=STEP_SECONDS) as engine:
        for image in images:
            if not is_pulled(engine, image):
                pull(engine, image)
                say(f"{node.name} has pulled {image.reference}")


def _raise_nodes(lab: Lab) -> None:
    _load_modules()
    network.raise_network(lab)
    start_engines(lab.nodes, dns=[lab.name_server])
    start_services(lab)  # second: what an engine leaves of a node is ended before it starts anew
    swarm.form(lab.nodes)


def _load_modules() -> None:
    """A kernel may have them built in, or no modules at all; the engine says what it misses."""
    for module in _MODULES:
        with suppress(LabError):
            run(["modprobe", "--quiet", module], seconds=10)


def _unmount(directory: Path) -> None:
    """Undo mounts below a directory, those of a base image cut short, for example."""
    table = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted((m for m in table if m.startswith(f"{directory}/")), reverse=True):
        run(["umount", "--lazy", mount], seconds=10)


def _remove_cgroups(cgroup: str) -> None:
    def removed() -> bool:
        for top in processes.cgroup_directories(cgroup):
            _remove_tree(top)
        return not processes.cgroup_directories(cgroup)

    wait_for(f"the removal of the control group {cgroup}", removed, seconds=20)


def _remove_tree(top: Path) -> None:
    for directory in sorted(top.glob("**/"), reverse=True):
        with suppress(OSError):  # busy while its last process is taken apart
            directory.rmdir()
