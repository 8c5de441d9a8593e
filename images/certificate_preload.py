"""Show in /metrics for how many days the certificate of a scheduler or worker is valid.

A preload of `dask scheduler` and `dask worker`, mounted into containers of any image as a Swarm
config. Without TLS, or without prometheus_client, it does nothing.
"""

import asyncio
import ssl
import time
from contextlib import suppress

from distributed import Scheduler, Worker
from distributed.comm import get_address_host_port

DAY = 86400  # seconds


async def dask_setup(server: Scheduler | Worker) -> None:
    """Add the number of days to the server's metrics."""
    if not server.security.require_encryption:
        return
    with suppress(ImportError):
        from prometheus_client import Gauge

        end = await certificate_end(server)
        days = Gauge("dask_certificate_days", "Days until the certificate of this program ends")
        days.set_function(lambda: (end - time.time()) / DAY)


async def certificate_end(server: Scheduler | Worker) -> float:
    """Return the end of the certificate that a server shows, in seconds since 1970."""
    role = "scheduler" if isinstance(server, Scheduler) else "worker"
    context = server.security.get_connection_args(role)["ssl_context"]
    host, port = get_address_host_port(server.listeners[0].contact_address)
    _, writer = await asyncio.open_connection(host, port, ssl=context)
    writer.close()
    return ssl.cert_time_to_seconds(writer.get_extra_info("peercert")["notAfter"])
