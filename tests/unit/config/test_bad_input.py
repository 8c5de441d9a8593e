"""Ten thousand configs: settings, or problems that each name a key and a fix."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.problems import ConfigError
from config.settings import declared_settings, parse_settings
from config.workloads import workloads
from tests.hostile import DEFAULTS, HOSTILE, configs

KEYS = {setting.key for setting in declared_settings()}
SECRETS = {setting.key for setting in declared_settings() if setting.secret}


def problems_of(changes, encrypted):
    """Return the problems of a config, none if it gives settings."""
    try:
        parsed = parse_settings(DEFAULTS | changes, encrypted, {})
    except ConfigError as error:
        return error.problems or [error]
    assert workloads(parsed)
    return ()


@settings(max_examples=10_000, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(changes=configs(), encrypted=st.sampled_from([SECRETS, KEYS]))
def test_any_config_gives_settings_or_problems(changes, encrypted):
    """No text makes a traceback, and every problem names a key and a fix."""
    for problem in problems_of(changes, encrypted):
        assert problem.key in KEYS
        assert problem.found
        assert problem.expected
        assert problem.fix.startswith("pulumi config ")
        lines = str(problem).split("\n")
        assert 3 == len(lines)
        assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("key", sorted(KEYS))
def test_every_hostile_text_is_taken_or_refused_with_its_key(key):
    """Alone in an otherwise valid config, a text is refused for its own key only."""
    related = {"prefectApiUrl": {"prefect": "external"}, "domain": {"auth": "basic"}}
    for text in HOSTILE:
        problems = problems_of(related.get(key, {}) | {key: text}, SECRETS)
        assert {problem.key for problem in problems} <= {key}
