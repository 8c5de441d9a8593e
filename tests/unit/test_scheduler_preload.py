"""The address that a scheduler shows, tried with a real scheduler and its preload."""

from pathlib import Path

import dask
import pytest

from tests.conftest import run_async

PRELOAD = Path(__file__).parents[2] / "images" / "scheduler_preload.py"
ADDRESS = "tcp://scheduler:8786"


def test_clients_are_shown_the_address_that_every_node_reaches():
    """Otherwise it is that of the first interface, a network of its own node."""
    distributed = pytest.importorskip("distributed")

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
