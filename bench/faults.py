"""Faults of a cluster on the lab: how each is made, and what a computation may lose by it."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import docker

from bench import ballast
from bench.context import containers_of, run_in_notebook
from lab import cluster, network, processes
from lab.layout import Lab, Node
from lab.services import start_portal, stop_portal
from lab.shell import run

SECONDS = 240  # for a fault and its repair
FREEZE_SECONDS = 40
CLOSED_SECONDS = 10
BALLAST = Path(ballast.__file__).read_text()
SPILL_DIRECTORY = "/tmp/dask-scratch-space/*/storage"  # noqa: S108  in a container
Container = Any  # docker is typed in part only


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault; `strike` returns when it is over.

    A client loses its work where the scheduler is lost, and its connection where its own node is.
    With `keeps_members` all workers may be the same afterwards. With `closes_pages` the pages are
    lost, and no worker.
    `quick` faults are in the tests; those with `original` are measured on the original stack too.
    """

    what: str
    strike: Callable[[Lab], None]
    loses_scheduler: bool = False
    loses_client: bool = False
    keeps_members: bool = False
    closes_pages: bool = False
    quick: bool = False
    original: bool = False


def node_of(lab: Lab, service: str) -> Node:
    """Return a node where a service runs."""
    return lab.nodes[1] if service == "dask_worker" else lab.master


@contextmanager
def container(lab: Lab, service: str) -> Iterator[Container]:
    """Yield a container of a service."""
    with closing(docker.DockerClient(node_of(lab, service).docker_host)) as engine:
        yield containers_of(engine, service)[0]


def kill_process(lab: Lab, find: Callable[[int, Sequence[Sequence[str]]], int]) -> None:
    """Kill a process of a worker's container: the nanny, or the worker, which its nanny starts."""
    with container(lab, "dask_worker") as worker:
        rows = worker.top(ps_args="-eo pid,ppid")["Processes"]
        os.kill(find(worker.attrs["State"]["Pid"], rows), signal.SIGKILL)


def worker_process(first: int, rows: Sequence[Sequence[str]]) -> int:
    """Return the last descendant of a container's first process.

    It is a nanny's worker, or the only process. A health check is no descendant.
    """
    return _descendants(first, rows)[-1]


def nanny_process(first: int, rows: Sequence[Sequence[str]]) -> int:
    """Return the parent of the last descendant of a container's first process."""
    return _descendants(first, rows)[-2]


def _descendants(first: int, rows: Sequence[Sequence[str]]) -> list[int]:
    found = [first]
    while children := [int(pid) for pid, parent in rows if int(parent) == found[-1]]:
        found.append(max(children))
    return found


def kill_container(lab: Lab, service: str) -> None:
    """Kill a container of a service; the Swarm starts another one."""
    with container(lab, service) as found:
        found.kill()


def freeze_worker(lab: Lab) -> None:
    """Freeze a worker's container for a while."""
    with container(lab, "dask_worker") as worker:
        worker.pause()
        time.sleep(FREEZE_SECONDS)
        worker.unpause()


def stop_scheduler(lab: Lab) -> None:
    """Ask the scheduler to stop."""
    with container(lab, "dask_scheduler") as scheduler:
        scheduler.kill(signal="SIGTERM")


def stop_login_service(lab: Lab) -> None:
    """Stop the login service for a while."""
    stop_portal(lab)
    time.sleep(CLOSED_SECONDS)
    start_portal(lab)


def restart_without_registry(lab: Lab, service: str) -> None:
    """Kill a container of a service while no registry answers."""
    with (
        stopped_registries(lab),
        closing(docker.DockerClient(node_of(lab, service).docker_host)) as engine,
    ):
        before = _ids(engine, service)
        containers_of(engine, service)[0].kill()
        _wait(f"new container of {service}", lambda: _ids(engine, service) - before)


@contextmanager
def stopped_registries(lab: Lab) -> Iterator[None]:
    """Freeze the registry of every node: it accepts connections, and does not answer."""
    pids = {pid for node in lab.nodes for pid in processes.running(f"{node.cgroup}/registry")}
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _ids(engine: docker.DockerClient, service: str) -> set[str]:
    return {task.id for task in containers_of(engine, service)}


def fill_spill_disk(lab: Lab) -> None:
    """Leave no room where a worker spills, and fill its memory until it pauses; undo both."""
    with container(lab, "dask_worker") as worker:
        enter = ["nsenter", "--mount", f"--target={worker.attrs['State']['Pid']}"]
        status, storage = worker.exec_run(["sh", "-c", f"echo {SPILL_DIRECTORY}"])
        spill = storage.decode().strip()
        if status or "*" in spill or " " in spill:
            raise RuntimeError(f"{SPILL_DIRECTORY} is not one directory: {spill}")
        run([*enter, "mount", "-t", "tmpfs", "-o", "size=4k", "full", spill])
        try:
            networks = worker.attrs["NetworkSettings"]["Networks"]
            address = networks["dask-network"]["IPAddress"]
            run_in_notebook(lab.docker_host, "ballast", BALLAST, SECONDS, f"//{address}:")
            if b"No space left on device" not in worker.logs():
                raise RuntimeError("the worker has not tried to spill")
        finally:
            run([*enter, "umount", spill])


def restart_data_node(lab: Lab) -> None:
    """Cut a data node's power, and switch the node on again."""
    restart(lab, lab.nodes[1])


def restart_manager(lab: Lab) -> None:
    """Cut the manager's power, and switch it on again."""
    restart(lab, lab.master)


def restart(lab: Lab, node: Node) -> None:
    """End all programs of a node at once, and start what the lab has there."""
    processes.end(node.cgroup)
    cluster.ensure_nodes(lab)


def drain_data_node(lab: Lab) -> None:
    """Drain a data node until its workers are gone, and activate it again."""
    with drained(lab, lab.nodes[1]):
        pass


@contextmanager
def drained(lab: Lab, node: Node) -> Iterator[None]:
    """Drain a data node until its workers are gone, and activate it at the end."""
    with closing(docker.DockerClient(lab.docker_host)) as manager:
        (member,) = manager.nodes.list(filters={"name": node.hostname})
        _set_availability(member, "drain")
        try:
            with closing(docker.DockerClient(node.docker_host)) as engine:
                _wait("node without workers", lambda: not _ids(engine, "dask_worker"))
            yield
        finally:
            member.reload()
            _set_availability(member, "active")


def _set_availability(member: Any, value: str) -> None:  # noqa: ANN401
    member.update(member.attrs["Spec"] | {"Availability": value})


def _wait(what: str, condition: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {what} after {seconds} s")
        time.sleep(0.5)


def cut_data_node(lab: Lab) -> None:
    """Cut a data node off the network for a while."""
    network.set_link(lab, lab.nodes[1], up=False)
    try:
        time.sleep(FREEZE_SECONDS)
    finally:
        network.set_link(lab, lab.nodes[1], up=True)


CONTAINER_KILLED = Fault(
    what="a worker's container is killed",
    strike=partial(kill_container, service="dask_worker"),
    quick=True,
    original=True,
)
FAULTS = (
    Fault(
        what="a worker's process is killed",
        strike=partial(kill_process, find=worker_process),
        quick=True,
        original=True,
    ),
    Fault(what="a nanny is killed", strike=partial(kill_process, find=nanny_process), quick=True),
    CONTAINER_KILLED,
    Fault(
        what="a worker is frozen for 40 s",
        strike=freeze_worker,
        keeps_members=True,
        original=True,
    ),
    Fault(
        what="the scheduler is stopped",
        strike=stop_scheduler,
        loses_scheduler=True,
        quick=True,
        original=True,
    ),
    Fault(
        what="the scheduler is killed",
        strike=partial(kill_container, service="dask_scheduler"),
        loses_scheduler=True,
        quick=True,
        original=True,
    ),
    Fault(
        what="the notebook is killed",
        strike=partial(kill_container, service="dask_notebook"),
        loses_client=True,
        keeps_members=True,
        quick=True,
    ),
    Fault(
        what="Caddy is killed",
        strike=partial(kill_container, service="dask_caddy"),
        closes_pages=True,
    ),
    Fault(
        what="the login service is down for 10 s",
        strike=stop_login_service,
        closes_pages=True,
    ),
    Fault(
        what="a worker restarts without the registry",
        strike=partial(restart_without_registry, service="dask_worker"),
    ),
    Fault(
        what="the scheduler restarts without the registry",
        strike=partial(restart_without_registry, service="dask_scheduler"),
        loses_scheduler=True,
    ),
    Fault(what="a worker's disk is full", strike=fill_spill_disk, keeps_members=True),
    Fault(what="a data node loses power", strike=restart_data_node),
    Fault(what="the manager loses power", strike=restart_manager, loses_client=True),
    Fault(what="a data node is drained", strike=drain_data_node),
    Fault(what="a data node is cut off for 40 s", strike=cut_data_node, keeps_members=True),
)
