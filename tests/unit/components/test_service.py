"""What makes a service's spec well-formed."""

from decimal import Decimal

import pytest

from components.health_check import HealthCheck
from components.service import ServiceSpec
from config.types import Platform
from config.workloads import ResourceLimit, Workload

LIMIT = ResourceLimit(cpus=Decimal(1), memory_bytes=2**30)


def spec(**changed):
    """Return the spec of a service."""
    usual = {
        "workload": Workload(name="dask_new", constraints=[], reservation=LIMIT, limit=LIMIT),
        "image": "image:1",
        "args": [],
        "health_check": HealthCheck(port=80, path="/"),
        "networks": [],
        "platform": Platform(os="linux", architecture="amd64"),
    }
    return ServiceSpec(**usual | changed)


def test_a_second_environment_variable_is_refused():
    """The provider sends two in random order, and Swarm would restart the tasks."""
    assert {"A": "1"} == spec(environment={"A": "1"}).environment
    with pytest.raises(ValueError, match="dask_new has more than one environment variable"):
        spec(environment={"A": "1", "B": "2"})
