"""The rights of every running container: what the engine shows, and what the container can do."""

import json
import threading
from contextlib import ExitStack, closing
from dataclasses import dataclass

import docker
import pytest

from tests import rights
from tests.rights import CADDY
from tests.swarm.containers import containers_of, run_in
from tests.swarm.ingress import MANAGED_CADDY

PROBE = "the probe"
WRITABLE = {**rights.WRITABLE, PROBE: {"/tmp", "/home/jovyan"}}
ELSEWHERE = {"/", "/usr", "/usr/bin", "/etc", "/var", "/opt", "/home"}
NET_BIND_SERVICE = 1 << 10
# Prints the user ids and capabilities of all processes.
STATUS = "grep -hE '^(Uid|CapEff|CapBnd):' /proc/[0-9]*/status; true"
MOUNTS = "cat /proc/mounts"
WRITE = """
for folder; do echo "$folder=$( (touch "$folder/.tried" && rm "$folder/.tried") 2>&1 )"; done
"""
NO_SETUID = "find / -xdev -type f -perm /6000"
# Keeps more data than the memory holds, in chunks of 16 MiB that cannot be compressed.
SPILL = """
import json
import dask.array as da
from dask.distributed import Client, wait

def directory(dask_worker):
    import os
    folder = dask_worker.local_directory
    files = [os.path.join(top, name) for top, _, names in os.walk(folder) for name in names]
    return folder, sum(os.path.getsize(file) for file in files)

with Client(timeout="30s") as client:
    client.wait_for_workers(4, timeout=30)
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    memory = sum(worker["memory_limit"] for worker in workers)
    data = da.random.random(int(1.3 * memory) // 8, chunks=2 * 2**20).persist()
    wait(data)
    print(json.dumps([list(client.run(directory).values()), data.mean().compute(), memory]))
"""


@dataclass(kw_only=True)
class Observed:
    """A container as the engine shows it, and the output of commands in it."""

    attrs: dict
    status: str
    mounts: str
    writes: dict
    writes_of_root: dict

    @property
    def processes(self):
        """Return the values of each field of all processes."""
        lines = [line.split() for line in self.status.splitlines()]
        fields = {"Uid:": set(), "CapEff:": set(), "CapBnd:": set()}
        for field, *values in lines:
            fields[field] |= {*values}
        return fields

    def file_system(self, path):
        """Return the type of the file system that is mounted at a path, None without a mount."""
        types = [line.split()[1:3] for line in self.mounts.splitlines()]
        return dict(types).get(path)


def observe(container, writable):
    """Return what a container shows, and the messages of its attempts to write to directories."""
    return Observed(
        attrs=container.attrs,
        status=run_in(container, "sh", "-c", STATUS),
        mounts=run_in(container, "sh", "-c", MOUNTS),
        writes=errors_of_writes(container, ELSEWHERE | writable),
        writes_of_root=errors_of_writes(container, ELSEWHERE, user="0"),
    )


def errors_of_writes(container, paths, **options):
    """Try to write a file to each directory, and return the errors, empty after a success."""
    command = ["sh", "-c", WRITE, "sh", *sorted(paths)]
    _, output = container.exec_run(command, **options)
    errors = dict(line.split("=", 1) for line in output.decode().splitlines())
    assert paths == {*errors}
    return errors


class Watcher(threading.Thread):
    """Observes the probe's container, which runs during a deployment only."""

    def __init__(self, engine):
        super().__init__(daemon=True)
        self.observed = None
        self._engine = engine
        self._ended = threading.Event()

    def run(self):
        """Try until a container of the probe was observed."""
        while not (self.observed or self._ended.wait(0.2)):
            for container in self._engine.containers.list(filters={"name": "dask_health-"}):
                try:
                    self.observed = observe(container, WRITABLE[PROBE])
                except (AssertionError, docker.errors.APIError):
                    continue  # it has ended meanwhile

    def stop(self):
        """Return the observation."""
        self._ended.set()
        self.join()
        assert self.observed, "the probe was not seen"
        return self.observed


@pytest.fixture(scope="module")
def engines(lab):
    """Return a client of every node's engine, the manager's first."""
    with ExitStack() as stack:
        clients = [docker.DockerClient(node.docker_host) for node in lab.nodes]
        yield [stack.enter_context(closing(client)) for client in clients]


@pytest.fixture(scope="module")
def probe(engines):
    """Return a thread that observes the probe."""
    watcher = Watcher(engines[0])
    watcher.start()
    return watcher


@pytest.fixture(scope="module")
def cluster(probe, deployed):
    """Return a deployment with every service."""
    with deployed("rehearsal", prefect="managed", **MANAGED_CADDY) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def observed(cluster, probe, engines):
    """Return what each service's first container, and the probe's, shows."""
    names = [name for name in WRITABLE if name != PROBE]
    return {name: observe(first(engines, name), WRITABLE[name]) for name in names} | {
        PROBE: probe.stop()
    }


def first(engines, name):
    """Return the first running container of a service."""
    return next(container for engine in engines for container in containers_of(engine, name))


def all_containers(engines):
    """Return the running containers of all nodes."""
    return [container for engine in engines for container in engine.containers.list()]


def test_every_container_is_tested(cluster, engines):
    """A new service has its row in `WRITABLE`."""
    labels = [container.labels for container in all_containers(engines)]
    services = {label["com.docker.swarm.service.name"] for label in labels}
    assert {*WRITABLE} - {PROBE} == services


@pytest.mark.parametrize("name", WRITABLE)
class TestEveryContainer:
    def test_is_not_root(self, observed, name):
        """None of its processes is."""
        assert "1000:1000" == observed[name].attrs["Config"]["User"]
        assert {"1000"} == observed[name].processes["Uid:"]

    def test_has_no_capability_but_caddys(self, observed, name):
        """No process has more, or can get more."""
        host = observed[name].attrs["HostConfig"]
        assert ["ALL"] == host["CapDrop"]
        assert host["Privileged"] is False
        processes = observed[name].processes
        allowed = NET_BIND_SERVICE if name in CADDY else 0
        assert {allowed} == {int(value, 16) for value in processes["CapBnd:"]}
        assert {int(value, 16) for value in processes["CapEff:"]} <= {0, allowed}

    def test_writes_to_its_volumes_only(self, observed, name):
        """Neither its user nor root can write elsewhere."""
        assert observed[name].attrs["HostConfig"]["ReadonlyRootfs"] is True
        assert WRITABLE[name] == {
            path for path, error in observed[name].writes.items() if not error
        }
        for error in observed[name].writes_of_root.values():
            assert "Read-only file system" in error

    def test_its_volumes_are_on_disk(self, observed, name):
        """Not on a tmpfs, which would take the container's memory."""
        mounts = observed[name].attrs["Mounts"]
        types = {mount["Destination"]: mount["Type"] for mount in mounts}
        assert dict.fromkeys(WRITABLE[name], "volume") == {
            path: kind for path, kind in types.items() if kind != "bind"
        }
        for path in WRITABLE[name]:
            assert observed[name].file_system(path) not in (None, "tmpfs", "overlay")

    def test_mounts_nothing_of_its_node_but_configs(self, observed, name):
        """The engine's socket is nowhere."""
        mounts = observed[name].attrs["Mounts"]
        sources = [mount["Source"] for mount in mounts if mount["Type"] == "bind"]
        assert [] == [source for source in sources if "/configs/" not in source]
        assert "docker.sock" not in observed[name].mounts
        assert not observed[name].attrs["HostConfig"]["Binds"]

    def test_shares_no_namespace_or_device_of_its_node(self, observed, name):
        """Processes, memory, names and devices of the node stay out of reach."""
        host = observed[name].attrs["HostConfig"]
        assert ("", "", "") == (host["PidMode"], host["UTSMode"], host["UsernsMode"])
        assert host["IpcMode"] in ("private", "shareable")
        assert host["NetworkMode"] != "host"
        assert not host["Devices"]
        assert "unconfined" not in str(host["SecurityOpt"])

    def test_has_limits_and_a_bounded_log(self, observed, name):
        """It cannot use the whole memory, CPU or disk of its node."""
        host = observed[name].attrs["HostConfig"]
        assert host["Memory"] > 0
        assert host["NanoCpus"] > 0
        assert {"max-size", "max-file"} == {*host["LogConfig"]["Config"]}

    def test_publishes_no_port_but_caddys(self, observed, name):
        """Caddy asks for a login."""
        ports = observed[name].attrs["HostConfig"]["PortBindings"] or {}
        expected = {"80/tcp", "443/tcp"} if name == "dask_caddy" else set()
        assert expected == {*ports}


@pytest.mark.parametrize("key", ["image", "notebookImage"])
def test_no_program_of_an_image_has_more_rights_than_its_user(swarm, images, key):
    """Without setuid and setgid, `su` and the like do not make anybody root."""
    program = ["sh", "-c", f"{NO_SETUID}; true"]
    assert b"" == swarm.containers.run(images[key], program, user="0", remove=True)


def test_a_set_larger_than_the_memory_is_spilled_to_disk(cluster, engines, observed):
    """The workers keep 1.3 times their memory, and no container is replaced."""
    before = {container.id for container in all_containers(engines)}
    notebook = first(engines, "dask_notebook")
    output = run_in(notebook, "timeout", "240", "python", "-c", SPILL)
    directories, mean, memory = json.loads(output.splitlines()[-1])
    assert 0.5 == pytest.approx(mean, abs=0.001)
    assert memory * 0.3 < sum(size for _, size in directories)
    assert {"/tmp"} == {f"/{folder.split('/')[1]}" for folder, _ in directories}
    assert before == {container.id for container in all_containers(engines)}
