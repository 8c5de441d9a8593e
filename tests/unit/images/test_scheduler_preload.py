"""A real scheduler shows its Swarm address and accepts S3 keys."""

import sys
from types import SimpleNamespace

import dask
import distributed

from tests.conftest import ROOT, run_async

PRELOAD = ROOT / "images" / "scheduler_preload.py"
ADDRESS = "tcp://scheduler:8786"


def test_clients_are_shown_the_address_that_every_node_reaches():
    """By default it is the address of the first interface, which only its node reaches."""

    async def shown():
        made = distributed.Scheduler(
            host="tcp://127.0.0.1", port=0, dashboard=False, preload=[str(PRELOAD)]
        )
        async with made:
            real = made.listeners[0].contact_address
            async with distributed.Client(real, asynchronous=True, set_as_default=False) as client:
                return client.scheduler_info()["address"], repr(client)

    with dask.config.set({"distributed.scheduler.contact-address": ADDRESS}):
        address, text = run_async(shown())
    assert ADDRESS == address
    assert ADDRESS in text


def test_the_scheduler_writes_the_credentials_that_a_worker_sends(tmp_path, monkeypatch):
    """Only its user can read the file; cached file systems of s3fs are dropped."""
    path, cleared = tmp_path / "s3_credentials", []
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    kept = SimpleNamespace(clear_instance_cache=lambda: cleared.append(path.read_text()))
    monkeypatch.setitem(sys.modules, "s3fs", SimpleNamespace(S3FileSystem=kept))

    async def send(*texts):
        made = distributed.Scheduler(
            host="tcp://127.0.0.1", port=0, dashboard=False, preload=[str(PRELOAD)]
        )
        async with made, distributed.rpc(made.listeners[0].contact_address) as scheduler:
            for text in texts:
                await scheduler.store_s3_credentials(text=text)

    with dask.config.set({"distributed.scheduler.contact-address": ADDRESS}):
        run_async(send("old", "new", "new"))
    assert "new" == path.read_text()
    assert 0o600 == path.stat().st_mode & 0o777
    assert ["old", "new"] == cleared
