"""The services of a stack, from its settings alone."""

from decimal import Decimal

import pytest

from config.settings import parse_settings
from config.workloads import SMALL_RESERVATION, ResourceLimit, workloads

CADDY = {"caddyMode": "managed", "domain": "localhost", "auth": "basic"}


@pytest.fixture
def stack(defaults):
    """Return a function from config to workloads by service name."""

    def describe(**config):
        return {w.name: w for w in workloads(parse_settings(defaults | config, (), {}))}

    return describe


@pytest.mark.parametrize(
    ("config", "added"),
    [
        ({}, []),
        ({"prefect": "managed"}, ["dask_prefect"]),
        (CADDY, ["dask_caddy", "dask_caddy_reloader"]),
    ],
)
def test_a_managed_server_is_a_service_of_the_stack(stack, config, added):
    """The workers are last, because they get the remaining capacity."""
    assert ["dask_scheduler", "dask_notebook", *added, "dask_worker"] == list(stack(**config))


def test_workers_reserve_their_limit(stack):
    """A worker that Dask counts on must not depend on its neighbours."""
    worker = stack(workers="6", workersPerNode="3", workerMemory="2GiB")["dask_worker"]
    assert ResourceLimit(cpus=Decimal("0.5"), memory_bytes=2**31) == worker.limit
    assert worker.limit == worker.reservation
    assert (6, 3, "workerPlacement") == (worker.replicas, worker.per_node, worker.placement_key)


def test_workers_reserve_what_the_user_sets(stack):
    """The limits stay; each resource can be set alone."""
    limit = ResourceLimit(cpus=Decimal("0.5"), memory_bytes=2**30)
    less = stack(workerReservedMemory="4MiB")["dask_worker"]
    assert (Decimal("0.5"), 2**22) == (less.reservation.cpus, less.reservation.memory_bytes)
    less = stack(workerReservedCpus="0.001")["dask_worker"]
    assert (Decimal("0.001"), 2**30) == (less.reservation.cpus, less.reservation.memory_bytes)
    assert limit == less.limit


def test_other_services_reserve_little_and_never_more_than_their_limit(stack):
    """They share their node up to their limits."""
    services = stack(prefect="managed", schedulerCpus="0.05", **CADDY)
    scheduler = services.pop("dask_scheduler")
    del services["dask_worker"]
    assert {SMALL_RESERVATION} == {workload.reservation for workload in services.values()}
    assert Decimal("0.05") == scheduler.reservation.cpus == scheduler.limit.cpus
