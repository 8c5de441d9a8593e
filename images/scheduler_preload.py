"""Give a Dask scheduler in a Swarm an address that every container reaches, and S3 keys.

A preload of `dask scheduler`, mounted into containers of any image as a Swarm config.

By default the scheduler shows the address of its first interface, which in a Swarm is a network of
its node alone. distributed has a configuration key for another address, but its scheduler does not
read the key.

The scheduler reads the metadata of Parquet files, so it needs the keys of the object store. Its
workers send it their credentials file. With a Swarm secret, every new key would restart the
scheduler and lose all work.
"""

import os
import sys
from pathlib import Path

import dask
from distributed import Scheduler


async def dask_setup(scheduler: Scheduler) -> None:
    """Show the address in `distributed.scheduler.contact-address`; accept S3 credentials."""
    address = dask.config.get("distributed.scheduler.contact-address")
    scheduler._address = address  # noqa: SLF001  as distributed's Worker does
    if "AWS_SHARED_CREDENTIALS_FILE" in os.environ:
        scheduler.handlers["store_s3_credentials"] = store_s3_credentials


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
