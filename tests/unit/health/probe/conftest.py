"""What the tests of the probe's parts share: a cluster in this process, and web applications."""

import asyncio
import threading
import time
from contextlib import contextmanager

import distributed
import pytest

GIB = 2**30


@pytest.fixture(scope="package")
def cluster():
    """Return a cluster of two workers in this process."""
    options = {"n_workers": 2, "threads_per_worker": 1, "memory_limit": GIB}
    with distributed.LocalCluster(
        processes=False, protocol="tcp://", dashboard_address=":0", **options
    ) as made:
        yield made


@pytest.fixture
def client(cluster):
    """Return a client of it."""
    with cluster.get_client() as made:
        yield made


@pytest.fixture
def training(client, tmp_path):
    """Return a context manager that runs a long task of a user on each of some workers."""

    @contextmanager
    def train_on(*workers):
        ended = tmp_path / "ended"

        def train():
            end = time.monotonic() + 20
            while not ended.exists() and time.monotonic() < end:
                time.sleep(0.01)
            return "trained"

        def running(dask_worker):
            return [task.key for task in dask_worker.state.executing]

        tasks = [client.submit(train, workers=[worker], pure=False) for worker in workers]
        while sorted(task.key for task in tasks) != sorted(
            key for keys in client.run(running, workers=[*workers]).values() for key in keys
        ):
            time.sleep(0.01)
        try:
            yield
        finally:
            ended.touch()
        assert ["trained"] * len(workers) == client.gather(tasks)

    return train_on


@pytest.fixture
def run_application():
    """Return a function that serves a tornado application on the loopback, and its address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    servers = []

    async def listen(application):
        servers.append(application.listen(0, "127.0.0.1"))
        (sock,) = servers[-1]._sockets.values()
        return f"http://127.0.0.1:{sock.getsockname()[1]}"

    async def stop():
        for server in servers:
            server.stop()
            await server.close_all_connections()

    def run(made):
        return asyncio.run_coroutine_threadsafe(made, loop).result(10)

    yield lambda application: run(listen(application))
    run(stop())
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()
