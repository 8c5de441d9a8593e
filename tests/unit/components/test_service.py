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


LINUX, X86, ARM = ("node.platform.os==linux", "node.platform.arch==x86_64", "linux/arm")
AMD64, ARM64, ATTESTATION = "linux/amd64", "linux/arm64", "unknown/unknown"
THIRD = [
    f"node.platform.arch!={machine}"
    for machine in ("armv6l", "armv7l", "i686", "ppc64le", "riscv64", "s390x")
]


@pytest.mark.parametrize(
    ("platforms", "of_image", "declared", "rules"),
    [
        ([AMD64], [], [AMD64], []),
        ([AMD64], [AMD64], [AMD64], []),
        ([AMD64, ARM64], [ARM64, AMD64], [AMD64, ARM64], []),
        ([AMD64], [AMD64, ATTESTATION, ATTESTATION], [AMD64, ATTESTATION], []),
        ([AMD64], [AMD64, ARM64], [AMD64, ARM64], [LINUX, X86]),
        ([ARM64], [AMD64, ARM64], [AMD64, ARM64], [LINUX, X86.replace("x86_64", "aarch64")]),
        ([AMD64, ARM64], [AMD64, ARM, ARM, ARM64], [AMD64, "linux/", ARM64], [LINUX, *THIRD]),
        ([AMD64], [AMD64, "windows/amd64"], [AMD64, "windows/amd64"], [LINUX, X86]),
    ],
)
def test_tasks_stay_on_the_platforms_whatever_else_the_image_has(
    platforms, of_image, declared, rules
):
    """The provider ignores the declared platforms when it creates a service."""
    limited = spec(platforms=platforms, image_platforms=of_image)
    placement = service_inputs(limited)["task_spec"]["placement"]
    assert declared == [f"{one['os']}/{one['architecture']}" for one in placement["platforms"]]
    assert rules == placement["constraints"]


def test_a_constraint_is_declared_once():
    """Swarm's list has no duplicates, so a refresh would show a change."""
    workload = Workload(name="dask_new", constraints=[X86], reservation=LIMIT, limit=LIMIT)
    declared = spec(workload=workload, image_platforms=[AMD64, ARM64])
    assert [X86, LINUX] == service_inputs(declared)["task_spec"]["placement"]["constraints"]


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
