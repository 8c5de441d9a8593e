"""Give a Dask scheduler in a Swarm the addresses that its clients reach, and S3 keys.

A preload of `dask scheduler`, mounted into containers of any image as a Swarm config.

By default the scheduler shows the address of its first interface, which in a Swarm is a network of
its node alone. distributed has a configuration key for another address, but its scheduler does not
read the key. By default it also listens on all networks. Caddy's network is for its dashboard
alone, so the command line lets it listen on the loopback only, and this preload adds the other
addresses.

The scheduler reads the metadata of Parquet files, so it needs the keys of the object store. Its
workers send it their credentials file. With a Swarm secret, every new key would restart the
scheduler and lose all work.
"""

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address, ip_network
from itertools import chain
from pathlib import Path

import dask
import psutil
from distributed import Scheduler

SUBNETS = Path("/etc/dask-swarm/subnets.json")  # of the cluster's network


async def dask_setup(scheduler: Scheduler) -> None:
    """Show the address in `distributed.scheduler.contact-address`, accept S3 keys, and listen."""
    address = dask.config.get("distributed.scheduler.contact-address")
    scheduler._address = address  # noqa: SLF001  as distributed's Worker does
    if "AWS_SHARED_CREDENTIALS_FILE" in os.environ:
        scheduler.handlers["store_s3_credentials"] = store_s3_credentials
    await listen(scheduler)


async def listen(scheduler: Scheduler) -> None:
    """Listen on the loopback's port at the addresses that clients use."""
    scheme, _, host_port = scheduler.listeners[0].listen_address.partition("://")
    port = host_port.rpartition(":")[2]
    for host in (*addresses_on_cluster_network(), *address_for_node()):
        await scheduler.listen(
            f"{scheme}://{host}:{port}",
            # As distributed's scheduler does.
            allow_offload=False,
            handshake_overrides={"pickle-protocol": 4, "compression": None},
            **scheduler.security.get_listen_args("scheduler"),
        )


def addresses_on_cluster_network() -> list[str]:
    """Return this container's addresses on the cluster's network."""
    subnets = [ip_network(text) for text in json.loads(SUBNETS.read_text(encoding="utf-8"))]
    parts = chain.from_iterable(psutil.net_if_addrs().values())
    own = [part.address for part in parts if part.family == socket.AF_INET]
    return [address for address in own if any(ip_address(address) in net for net in subnets)]


def address_for_node() -> Iterator[str]:
    """Yield this container's address for its own node, if it has one: SSH tunnels need it."""
    with suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing, and takes the route out of the node
        yield probe.getsockname()[0]


def store_s3_credentials(text: str) -> None:
    """Write a worker's credentials file where the scheduler's S3 clients read it."""
    path = Path(os.environ["AWS_SHARED_CREDENTIALS_FILE"])
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(text, encoding="utf-8")
    new.replace(path)
    if "s3fs" in sys.modules:
        # s3fs caches file systems, which keep their old keys.
        sys.modules["s3fs"].S3FileSystem.clear_instance_cache()
