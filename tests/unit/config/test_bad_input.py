"""Ten thousand configs: settings, or problems that each name a key and a fix."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caddy import caddyfile
from components import dask_config, object_store, pip
from components.ingress import caddyfile_values, install_place
from components.service import package_environment
from config.problems import ConfigError
from config.settings import declared_settings, parse_settings
from config.workloads import workloads
from tests.hostile import DEFAULTS, HOSTILE, configs

KEYS = {setting.key for setting in declared_settings()}
SECRETS = {setting.key for setting in declared_settings() if setting.secret}
HASH = "$2b$12$" + "a" * 53


def problems_of(changes, encrypted):
    """Return the problems of a config, none if it gives settings."""
    try:
        parsed = parse_settings(DEFAULTS | changes, encrypted, {})
    except ConfigError as error:
        return error.problems or [error]
    assert all(rendered(parsed))
    return ()


def rendered(settings):
    """Yield every text that a deployment with these settings renders, and its services."""
    yield workloads(settings)
    yield dask_config.render({}, settings.shared.dask_config)
    yield json.dumps(dict(settings.shared.environment)).encode()
    yield package_environment(["one", *settings.cluster.packages])
    yield pip.render(settings.cluster.pip_config)
    yield install_place(settings)
    if settings.object_store:
        yield object_store.credentials_file(settings.object_store).encode()
        yield object_store.object_store_variables(settings.object_store)
    if settings.ingress:
        values = caddyfile_values(settings, settings.ingress)
        yield caddyfile.fragments(values, HASH, dict.fromkeys(values.keys, "key"))
        yield settings.caddy.mode != "managed" or caddyfile.options(values)


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
