"""Dask's configuration of a service, merged from the stack's and the user's."""

import json

import dask.config
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.dask_config import merge, render
from config.types import dask_configuration
from tests.hostile import HOSTILE


@pytest.mark.parametrize(
    ("ours", "users", "expected"),
    [
        ({"a": 1}, {}, {"a": 1}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}, {"a": {"b": 1, "c": 3}}),
        ({"a-b": {"c-d": 1}}, {"a_b": {"c_d": 2, "e": 3}}, {"a-b": {"c-d": 2, "e": 3}}),
        ({"a": {"b": 1}}, {"a": None}, {"a": None}),
        ({}, {"x": {"y": [1]}}, {"x": {"y": [1]}}),
    ],
)
def test_the_users_values_win(ours, users, expected):
    """As Dask merges a second file."""
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
