"""A real scheduler listens on the cluster's network, shows its address and accepts S3 keys."""

import json
import socket
import sys
from types import SimpleNamespace

import dask
import distributed
import psutil
import pytest
from distributed.comm import get_address_host_port

from tests.conftest import ROOT, run_async

SOURCE = ROOT / "images" / "scheduler_preload.py"
ADDRESS = "tcp://scheduler:8786"
OURS, CADDYS = "127.0.0.2", "127.0.0.3"


@pytest.fixture
def preload(tmp_path):
    """Return the preload in a container whose cluster has a network."""
    (tmp_path / "subnets.json").write_text(json.dumps([f"{OURS}/32"]))
    path = tmp_path / SOURCE.name
    path.write_text(SOURCE.read_text().replace("/etc/dask-swarm", str(tmp_path)))
    return str(path)


def test_it_listens_on_the_clusters_network_and_not_on_caddys(preload, monkeypatch):
    """Whoever reaches the port may run code; a container's own node reaches it for SSH tunnels."""
    parts = [
        SimpleNamespace(family=socket.AF_INET, address=address)
        for address in ("127.0.0.1", OURS, CADDYS)
    ]
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: {"all": parts})

    async def listening():
        made = distributed.Scheduler(host="127.0.0.1", port=0, dashboard=False, preload=[preload])
        async with made:
            _, port = get_address_host_port(made.listeners[0].contact_address)
            real = f"tcp://{OURS}:{port}"
            async with distributed.Client(real, asynchronous=True, set_as_default=False):
                return {address: accepts(address, port) for address in (OURS, CADDYS, node_side())}

    with dask.config.set({"distributed.scheduler.contact-address": ADDRESS}):
        assert {OURS: True, CADDYS: False, node_side(): True} == run_async(listening())


def node_side():
    """Return the address on the route out of this machine."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]


def accepts(address, port):
    """Return whether a port accepts connections."""
    with socket.socket() as client:
        return client.connect_ex((address, port)) == 0


def test_clients_are_shown_the_address_that_every_node_reaches(preload):
    """By default it is the address of the first interface, which only its node reaches."""

    async def shown():
        made = distributed.Scheduler(
            host="tcp://127.0.0.1", port=0, dashboard=False, preload=[preload]
        )
        async with made:
            real = made.listeners[0].contact_address
            async with distributed.Client(real, asynchronous=True, set_as_default=False) as client:
                return client.scheduler_info()["address"], repr(client)

    with dask.config.set({"distributed.scheduler.contact-address": ADDRESS}):
        address, text = run_async(shown())
    assert ADDRESS == address
    assert ADDRESS in text


def test_the_scheduler_writes_the_credentials_that_a_worker_sends(preload, tmp_path, monkeypatch):
    """Only its user can read the file; cached file systems of s3fs are dropped."""
    path, cleared = tmp_path / "s3_credentials", []
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    kept = SimpleNamespace(clear_instance_cache=lambda: cleared.append(path.read_text()))
    monkeypatch.setitem(sys.modules, "s3fs", SimpleNamespace(S3FileSystem=kept))

    async def send(*texts):
        made = distributed.Scheduler(
            host="tcp://127.0.0.1", port=0, dashboard=False, preload=[preload]
        )
        async with made, distributed.rpc(made.listeners[0].contact_address) as scheduler:
            for text in texts:
                await scheduler.store_s3_credentials(text=text)

    with dask.config.set({"distributed.scheduler.contact-address": ADDRESS}):
        run_async(send("old", "new", "new"))
    assert "new" == path.read_text()
    assert 0o600 == path.stat().st_mode & 0o777
    assert ["old", "new"] == cleared
