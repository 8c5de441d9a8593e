"""One-shot services that reach volumes on any node, through the manager's engine alone.

Owns the agents, one beside each volume, the relay on the manager's own node, and the connections
to the agents. Docker lets this machine run commands only in containers of that node, and no
container of ours can join the cluster's network without a service. `volume_agent.py` runs in all
of them.
"""

import hashlib
import json
import os
import secrets
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker import types

from components.certificates import AUTHORITIES, FILE_NAME
from health.job import DEADLINE_LABEL
from health.reaper import reaper
from swarm.causes import error_of
from swarm.manager import MANAGER_ERRORS, PROBE_LABELS, Manager, cluster_of
from swarm.nodes import Node, Task, fits, hostname, platforms_of, spell_platform, usable
from swarm.progress import Progress
from swarm.shutdown import end_tasks
from swarm.snapshot import ENDED, Service
from tools import volume_agent
from tools.volume_agent import Channel, Json

LABEL = "dask.swarm/transfer"  # its value is the id of the network
LIMIT_SECONDS = 4 * 3600  # for all of a backup or restore
START_SECONDS = 300  # a node may have to pull the image
REACH_SECONDS = 30
SILENCE_SECONDS = 120  # between two messages
ANSWER_SECONDS = 900  # to compare gigabytes with their checksums
END_SECONDS = 10  # for Swarm to notice that a task has ended
PORT = 7865
FOLDER = "/volume"
USER = "1000:1000"
# Volumes have files of several users: to read them, and to restore them with owners and modes.
CAN_READ = ("DAC_OVERRIDE",)
CAN_WRITE = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID")
_CPUS = 10**9
_MEMORY = 512 * 2**20
_SOURCE = Path(volume_agent.__file__)


class TransferError(Exception):
    """A backup or a restore is not possible, or has failed."""


class LostAgentError(TransferError):
    """The connection to an agent has ended."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A volume on a node, by name; `node` is as the API describes it."""

    volume: str
    node: Node


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Where agents run: the cluster, its network, an image with Python, the files of TLS, if any.

    `platforms` are the image's, such as `linux/amd64`; none means any.
    `secrets` and `configs` are as in the API's spec of a service.
    """

    cluster: str  # its name
    network_id: str
    image: str
    platforms: Sequence[str]
    secrets: Sequence[Mapping[str, Any]]
    configs: Sequence[Mapping[str, Any]]

    @classmethod
    def beside(cls, service: Service, network_id: str) -> "Runtime":
        """Return the runtime of a service of the cluster."""
        template = service["Spec"]["TaskTemplate"]
        container = template["ContainerSpec"]
        return cls(
            cluster=cluster_of(service["Spec"]["Name"]),
            network_id=network_id,
            image=container["Image"],
            platforms=platforms_of(template.get("Placement") or {}),
            secrets=_named(container.get("Secrets"), FILE_NAME),
            configs=_named(container.get("Configs"), AUTHORITIES),
        )

    @property
    def tls(self) -> Json:
        """The files by which agent and relay know each other."""
        if not self.secrets:
            return {}
        return {"certificate": f"/run/secrets/{FILE_NAME}", "authorities": AUTHORITIES}


def _named(files: Sequence[Mapping[str, Any]] | None, name: str) -> list[Mapping[str, Any]]:
    return [file for file in files or () if file["File"]["Name"] == name]


class Attached:
    """The input and output of a command in a container, as a file."""

    def __init__(self, raw: Any) -> None:  # noqa: ANN401  docker's, whose type depends on the host
        self._raw = raw  # holds the connection open
        self.socket: socket.socket = getattr(raw, "_sock", raw)
        self.socket.settimeout(SILENCE_SECONDS)
        self._reader, self._rest, self._errors = self.socket.makefile("rb"), bytearray(), b""

    def read(self, count: int) -> bytes:
        """Return the next bytes of standard output; raises `LostAgentError` at its end."""
        while len(self._rest) < count:
            kind, data = self._frame()
            if kind == 1:
                self._rest += data
            else:
                self._errors += data
        data = bytes(self._rest[:count])
        del self._rest[:count]
        return data

    def _frame(self) -> tuple[int, bytes]:
        """Return a part of an output: 1 or 2, and bytes; see `ContainerAttach` of Docker's API."""
        header = self._reader.read(8)
        if len(header) < 8:
            errors = self._errors.decode(errors="replace").strip()
            raise LostAgentError(errors or "the connection to the volume has ended")
        return header[0], self._reader.read(int.from_bytes(header[4:], "big"))

    def write(self, data: bytes) -> None:
        """Write to standard input."""
        self.socket.sendall(data)

    def flush(self) -> None:
        """Nothing is kept back."""

    def close(self) -> None:
        """End the command."""
        with suppress(OSError):  # the other end may have closed it
            self.socket.shutdown(socket.SHUT_RDWR)
        for part in (self._reader, self._raw, self.socket):
            part.close()


class Agent:
    """The connection to the agent of a volume."""

    def __init__(self, attached: Attached) -> None:
        self._attached, self._channel = attached, Channel(attached)

    def pack(self, about: Json, target: Path) -> Json:
        """Write the volume's archive to a file."""
        self._request("pack", about=about)
        with target.open("wb") as file:
            for data in self._channel.series():
                file.write(data)
        return self._answer()

    def unpack(self, archive: Path) -> None:
        """Unpack an archive beside the volume's files."""
        self._request("unpack")
        with archive.open("rb") as file:
            while data := file.read(volume_agent.CHUNK):
                self._channel.send(data)
        self._channel.send()
        self._answer()

    def swap(self) -> Json:
        """Put the unpacked files into the place of the old files; return what is lost."""
        self._request("swap")
        return self._answer()

    def commit(self) -> None:
        """Delete the old files."""
        self._request("commit")
        self._answer()

    def _request(self, action: str, **more: object) -> None:
        self._channel.send(json.dumps({"action": action, **more}).encode())

    def _answer(self) -> Json:
        self._attached.socket.settimeout(ANSWER_SECONDS)
        answer: Json = json.loads(self._channel.receive())
        self._attached.socket.settimeout(SILENCE_SECONDS)
        if "error" in answer:
            raise TransferError(answer["error"])
        return answer


@contextmanager
def agents(
    address: str, runtime: Runtime, places: Sequence[Place], progress: Progress, *, read_only: bool
) -> Iterator[list[Agent]]:
    """Yield a connected agent for each volume; at the end their services are removed."""
    # Named after the cluster: the destroy of another cluster must not remove them.
    prefix = f"{runtime.cluster}_transfer-"
    relay, *others = [f"{prefix}{secrets.token_hex(4)}" for _ in [None, *places]]
    tokens = {name: secrets.token_hex(volume_agent.TOKEN_BYTES // 2) for name in others}
    os.environ["DOCKER_HOST"] = address  # for the reapers
    with ExitStack() as stack:
        # Before the first connection, because they fork.
        dismissals = [
            stack.enter_context(reaper(name, LIMIT_SECONDS)) for name in (relay, *others)
        ]
        manager = Manager(address)
        specs = [_relay_spec(relay, runtime, _own_node(manager, runtime))]
        for place, (name, token) in zip(places, tokens.items(), strict=True):
            specs.append(_agent_spec(name, runtime, place, token, read_only=read_only))
        _remove_leftovers(manager, runtime)
        created = False
        try:
            for spec in specs:
                manager.create(spec)
            created = True
            container = _wait_for_start(manager, [relay, *others], progress)
            with ExitStack() as connections:
                yield [
                    Agent(connections.enter_context(closing(_connect(manager, container, order))))
                    for order in _orders(tokens, runtime)
                ]
        except (LostAgentError, ConnectionError) as error:
            reason = _errors_of(manager, others)
            raise TransferError(f"{error}: {reason}" if reason else str(error)) from None
        finally:
            with suppress(*MANAGER_ERRORS):
                _remove(manager, [relay, *others])
                # Otherwise the reapers remove what a late request may create.
                for dismiss in dismissals if created else ():
                    dismiss()


def _orders(tokens: Mapping[str, str], runtime: Runtime) -> list[Json]:
    common = {"port": PORT, "seconds": REACH_SECONDS, **runtime.tls}
    return [{**common, "host": f"tasks.{name}", "token": token} for name, token in tokens.items()]


def _connect(manager: Manager, container: str, order: Json) -> Attached:
    attached = Attached(manager.attach(container, _command("relay")))
    attached.write(json.dumps(order).encode() + b"\n")
    return attached


def _command(*arguments: str) -> list[str]:
    return ["python", "-c", _SOURCE.read_text(encoding="utf-8"), *arguments]


def _own_node(manager: Manager, runtime: Runtime) -> Node:
    """Return the manager's own node, where the relay runs."""
    own = manager.node_id()
    (node,) = [node for node in manager.nodes() if node["ID"] == own]
    if not usable(node):
        name = hostname(node)
        raise TransferError(
            f"{name}: the manager's node is {node['Spec']['Availability']}, so it runs no service "
            f"that reaches the volumes. Fix: docker node update --availability active {name}"
        )
    if not fits(node, (), runtime.platforms):
        raise TransferError(
            f"{hostname(node)}: the manager's node is {spell_platform(node)}, but the stack's "
            f"images are for {', '.join(runtime.platforms)}, so it runs no service that reaches "
            "the volumes. Fix: images for both platforms, and both in platform; make up"
        )
    return node


def _remove_leftovers(manager: Manager, runtime: Runtime) -> None:
    """Remove the services of killed runs; raises `TransferError` while another run is active."""
    now = manager.labelled({LABEL: runtime.network_id})
    for name, service in now.services.items():
        is_active = [t for t in now.tasks_of(name) if t["Status"]["State"] not in ENDED]
        if is_active and float(service["Spec"]["Labels"][DEADLINE_LABEL]) > time.time():
            raise TransferError(
                f"{name}: another backup or restore of this stack is running. "
                f"Fix: wait until it has ended, or docker service rm {name}"
            )
        manager.remove(name)


def _agent_spec(
    name: str, runtime: Runtime, place: Place, token: str, *, read_only: bool
) -> dict[str, Any]:
    order = {
        "folder": FOLDER,
        "port": PORT,
        "seconds": LIMIT_SECONDS,
        "token_hash": hashlib.sha256(token.encode()).hexdigest(),
        **runtime.tls,
    }
    # Without a copy of the image's files: the volume may be new.
    volume = types.Mount(FOLDER, place.volume, read_only=read_only, no_copy=True)
    return _spec(
        name,
        runtime,
        place.node,
        command=_command("serve", json.dumps(order)),
        user="0:0",
        cap_add=[*(CAN_READ if read_only else CAN_WRITE)],
        mounts=[types.Mount("/tmp", source=None), volume],  # noqa: S108  the container's own
    )


def _relay_spec(name: str, runtime: Runtime, node: Node) -> dict[str, Any]:
    command = ["python", "-c", f"import time; time.sleep({LIMIT_SECONDS})"]
    return _spec(name, runtime, node, command=command, user=USER)


def _spec(name: str, runtime: Runtime, node: Node, **container: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the arguments of `APIClient.create_service`."""
    template = types.TaskTemplate(
        types.ContainerSpec(
            runtime.image,
            secrets=[_reference(types.SecretReference, "Secret", s) for s in runtime.secrets],
            configs=[_reference(types.ConfigReference, "Config", c) for c in runtime.configs],
            healthcheck=types.Healthcheck(test=["NONE"]),
            stop_grace_period=30 * 10**9,
            cap_drop=["ALL"],
            read_only=True,
            init=True,
            **container,
        ),
        resources=types.Resources(cpu_limit=_CPUS, mem_limit=_MEMORY),
        restart_policy=types.RestartPolicy(condition="none"),
        placement=types.Placement(constraints=[f"node.id=={node['ID']}"]),
        log_driver=types.DriverConfig("json-file", {"max-size": "1m", "max-file": "1"}),
        networks=[types.NetworkAttachmentConfig(runtime.network_id)],
    )
    ends_at = str(int(time.time() + LIMIT_SECONDS))
    return {
        "task_template": template,
        "name": name,
        # As a probe's, so that `destroy` and `recover` remove it.
        "labels": {**PROBE_LABELS, DEADLINE_LABEL: ends_at, LABEL: runtime.network_id},
        "mode": types.ServiceMode("replicated", replicas=1),
    }


def _reference(kind: Any, prefix: str, file: Mapping[str, Any]) -> Any:  # noqa: ANN401
    target = file["File"]
    return kind(
        file[f"{prefix}ID"],
        file[f"{prefix}Name"],
        filename=target["Name"],
        uid=target["UID"],
        gid=target["GID"],
        mode=target["Mode"],
    )


def _wait_for_start(manager: Manager, names: Sequence[str], progress: Progress) -> str:
    """Wait until all services run; return the id of the relay's container."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        now = manager.snapshot(names)
        tasks = [task for name in names for task in now.tasks_of(name)]
        states = [task["Status"]["State"] for task in tasks]
        if states == ["running"] * len(names):
            return str(tasks[0]["Status"]["ContainerStatus"]["ContainerID"])
        errors = _errors(tasks)
        waiting = ", ".join(sorted({state for state in states if state != "running"}))
        if set(states) & set(ENDED) or time.monotonic() > deadline:
            raise TransferError(
                f"the services that reach the volumes did not start: {errors or waiting}. "
                f"Fix: docker service ps --no-trunc {' '.join(names)}"
            )
        progress.update(f"services that reach the volumes are starting: {waiting or 'new'}")
        time.sleep(manager.poll_seconds)


def _errors_of(manager: Manager, names: Sequence[str]) -> str:
    """Return the errors of agents that have ended."""
    deadline = time.monotonic() + END_SECONDS
    while True:
        errors = _errors(manager.snapshot(names).tasks)
        if errors or time.monotonic() > deadline:
            return errors
        time.sleep(manager.poll_seconds)


def _errors(tasks: Iterable[Task]) -> str:
    return ", ".join({error_of(task) for task in tasks} - {""})


def _remove(manager: Manager, names: Sequence[str]) -> None:
    """End the services, so that no agent works on a volume any more, and remove them."""
    end_tasks(manager, names, Progress())
    for name in names:
        manager.remove(name)
