"""What the tests of the probe's parts share: a cluster in this process, and a client of it."""

import pytest

GIB = 2**30


@pytest.fixture(scope="package")
def cluster():
    """Return a cluster of two workers in this process."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "memory_limit": GIB}
    with distributed.LocalCluster(
        processes=False, protocol="tcp://", dashboard_address=None, **options
    ) as made:
        yield made


@pytest.fixture
def client(cluster):
    """Return a client of it."""
    with cluster.get_client() as made:
        yield made
