"""Hostile config values in the whole program: all resources, or none."""

import pytest
from hypothesis import HealthCheck, given, settings

from config.problems import ConfigError
from config.settings import parse_settings
from tests.hostile import DEFAULTS, configs
from tests.program.conftest import SECRET_KEYS, Program

ROLES = {"scheduler", "worker", "notebook"}
SECRETS = {key.removeprefix("dask-swarm:") for key in SECRET_KEYS}


def refused_keys(changes):
    """Return the keys of the problems of a config, none if it is valid."""
    try:
        parse_settings(DEFAULTS | changes, SECRETS, {})
    except ConfigError as error:
        return {problem.key for problem in error.problems}
    return set()


def valid_part(changes):
    """Return a config without the values that are refused, empty if that does not help."""
    while refused := refused_keys(changes) & changes.keys():
        changes = {key: text for key, text in changes.items() if key not in refused}
    return {} if refused_keys(changes) else changes


@settings(
    max_examples=30,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(changes=configs())
def test_a_config_makes_a_whole_plan_or_none(run, changes):
    """A refused config registers nothing; what is not refused becomes resources."""
    if refused_keys(changes):
        program = Program()
        with pytest.raises(ConfigError):
            run(program=program, **changes)
        assert [] == program.resources
    valid = valid_part(changes)
    program = run(**valid)
    services = program.of_type("docker:index/service:Service")
    cluster = valid.get("clusterName", "dask")
    assert {f"{cluster}_{role}" for role in ROLES} <= {s.inputs["name"] for s in services}
    assert "scheduler_address" in program.outputs
