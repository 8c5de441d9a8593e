"""Dask's configuration of a service, merged from the stack's and the user's."""

import json
from decimal import Decimal

import dask.config
import pytest
from distributed.config import deprecations
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components import certificates, notebook, scheduler, workers
from components.dask_config import merge, render
from config.cross_checks import DASK_SECTIONS
from config.problems import ConfigError
from config.settings import parse_settings
from config.types import dask_configuration
from config.workloads import ResourceLimit
from tests.hostile import HOSTILE

ADDRESS = "tls://scheduler:8786"
OURS = {
    "scheduler": scheduler.dask_config(ADDRESS),
    "worker": workers.dask_config(ResourceLimit(cpus=Decimal(1), memory_bytes=2**30)),
    "notebook": notebook.dask_config(ADDRESS),
}
TLS = certificates.DASK_CONFIG


@pytest.mark.parametrize(
    ("ours", "users", "expected"),
    [
        ({"a": 1}, {}, {"a": 1}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}, {"a": {"b": 1, "c": 3}}),
        ({"a-b": {"c-d": 1}}, {"a_b": {"c_d": 2, "e": 3}}, {"a-b": {"c-d": 2, "e": 3}}),
        ({"a": {"b": 1}}, {"a": None}, {"a": {"b": 1}}),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": None, "d": 2}}, {"a": {"b": {"c": 1}, "d": 2}}),
        ({"a": {"b": 1}}, {"a": {"b": None}}, {"a": {"b": None}}),
        ({}, {"x": {"y": [1]}}, {"x": {"y": [1]}}),
        ({}, {"x": None}, {"x": None}),
    ],
)
def test_the_users_values_win(ours, users, expected):
    """As Dask merges a second file; a section with nothing but comments is null in YAML."""
    assert expected == merge(ours, users)


def read_as_dask(folder, users):
    """Return what Dask reads from the file of a user's configuration."""
    text = render({}, dask_configuration(json.dumps(users)))
    (folder / "dask-swarm.yaml").write_text(text, encoding="utf-8")
    (config,) = dask.config.collect_yaml(paths=[str(folder)])
    return config


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    [text for text in HOSTILE if "\ud800" not in text and len(text) < 500]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(users=st.dictionaries(TEXTS, VALUES, min_size=1, max_size=3))
def test_dask_reads_any_value_as_the_config_has_it(tmp_path, users):
    """No text becomes a tag, an anchor, a number or another key."""
    assert users == read_as_dask(tmp_path, users)


def keys(config, *, sections):
    """Return the keys of a configuration's sections, or of its values."""
    found = set()
    for key, value in config.items():
        is_section = isinstance(value, dict)
        if is_section == sections:
            found.add(key)
        if is_section:
            found |= {f"{key}.{inner}" for inner in keys(value, sections=sections)}
    return found


@pytest.mark.parametrize("ours", [*OURS.values(), TLS], ids=[*OURS, "tls"])
def test_every_section_of_ours_is_checked(ours):
    """A text in its place would drop our values; with TLS the section of a role is refused."""
    roles = {f"distributed.comm.tls.{role}" for role in ("scheduler", "worker", "client")}
    assert keys(ours, sections=True) <= {*DASK_SECTIONS, *roles}


def nest(path, value, underscores):
    """Return a configuration with one value; `-` and `_` mean the same in its keys."""
    for key in reversed(path.split(".")):
        value = {key.replace("-", "_") if underscores else key: value}
    return value


def variable(path, spell):
    """Return the variable that sets a key for Dask, which takes small letters too."""
    return "DASK_" + spell(path.replace(".", "__").replace("-", "_"))


VALUE_KEYS = keys(TLS, sections=False)
OLDER_NAMES = {old for old, new in deprecations.items() if new in VALUE_KEYS}
# What the user may not set, and what leads to it or is beside it.
PATHS = st.sampled_from(sorted(VALUE_KEYS | OLDER_NAMES)) | st.sampled_from(
    sorted(keys(TLS, sections=True) | {"distributed.comm.tls.ciphers"})
)
USERS = st.lists(
    st.builds(nest, PATHS, st.sampled_from([None, None, {}, [], "tcp", False]), st.booleans()),
    max_size=2,
)
VARIABLES = st.dictionaries(
    st.builds(variable, PATHS, st.sampled_from([str.upper, str.lower])),
    st.sampled_from(["None", "{}", "False", "{'tls': {'ca-file': None}}", "tcp"]),
    max_size=1,
)


@pytest.mark.filterwarnings("ignore:Dask configuration key:FutureWarning")
@settings(
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(users=USERS, variables=VARIABLES)
def test_nothing_that_is_valid_switches_tls_off(tmp_path, defaults, users, variables):
    """Whatever the user adds, every program reads the certificates and requires encryption."""
    written = json.dumps(dask.config.merge(*users))
    config = {"daskConfig": written, "environment": json.dumps(variables)}
    try:
        shared = parse_settings(defaults | config, (), {}).shared
    except ConfigError:
        return
    for ours in OURS.values():
        (tmp_path / "dask-swarm.yaml").write_text(render(ours, TLS, shared.dask_config))
        read = dask.config.collect(paths=[str(tmp_path)], env=shared.environment)
        for key in VALUE_KEYS:
            assert dask.config.get(key, config=TLS) == dask.config.get(key, config=read)
