"""The address that a Dask scheduler shows: the one that every node and container reaches.

A preload of `dask scheduler`, mounted into containers of any image as a Swarm config. Left alone,
the scheduler shows the address of its first interface, which in a Swarm is a network of its own
node. distributed has a configuration key for another address, which its scheduler does not read.
"""

import dask
from distributed import Scheduler


async def dask_setup(scheduler: Scheduler) -> None:
    """Show clients the address in `distributed.scheduler.contact-address`."""
    address = dask.config.get("distributed.scheduler.contact-address")
    scheduler._address = address  # noqa: SLF001  as distributed's Worker does with its own
