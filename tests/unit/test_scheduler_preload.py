"""The address that a scheduler shows, tried with a real scheduler and its preload."""

import asyncio
from contextlib import closing
from pathlib import Path

import dask
import pytest

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

    # Not asyncio.run, which would leave this thread, and so the SDK's tests, without a loop.
    with (
        closing(asyncio.new_event_loop()) as loop,
        dask.config.set({"distributed.scheduler.contact-address": ADDRESS}),
    ):
        address, text = loop.run_until_complete(shown())
    assert ADDRESS == address
    assert ADDRESS in text
