"""Dask's configuration of a service, merged from the stack's and the user's."""

import pytest

from components.dask_config import merge


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
