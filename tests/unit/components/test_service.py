"""What makes a service's spec well-formed."""

from decimal import Decimal

import pytest

from components.health_check import HealthCheck
from components.service import ServiceSpec, service_inputs, spell_duration
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
        "platforms": ["linux/amd64"],
    }
    return ServiceSpec(**usual | changed)


def test_a_second_environment_variable_is_refused():
    """The provider sends two in random order, and Swarm would restart the tasks."""
    assert {"A": "1"} == spec(environment={"A": "1"}).environment
    with pytest.raises(ValueError, match="dask_new has more than one environment variable"):
        spec(environment={"A": "1", "B": "2"})


@pytest.mark.parametrize(
    ("seconds", "spelled"),
    [(45, "45s"), (300, "5m"), (330, "5m30s"), (3600, "1h"), (3605, "1h0m5s"), (5400, "1h30m")],
)
def test_durations_are_spelled_as_the_provider_reads_them_back(seconds, spelled):
    """Another spelling would show as a change at every refresh."""
    assert spelled == spell_duration(seconds)


@pytest.mark.parametrize(("seconds", "period"), [(0, "5m"), (200, "5m"), (1200, "20m")])
def test_a_container_may_take_long_to_start(seconds, period):
    """Docker would kill it in the middle of an installation."""
    container = service_inputs(spec(start_seconds=seconds))["task_spec"]["container_spec"]
    assert period == container["healthcheck"]["start_period"]
