"""The table of the README: it is the one of the tests, and each change declares no more."""

import json

import pytest

from tests.changes import CHANGES, NEWER, REBUILT, table
from tests.conftest import ROOT

SERVICES = "docker:index/service:Service"


def as_text(values):
    """Return config values as the engine hands them to a program."""
    images = {each: f"registry.example.org/dask:{each}" for each in (NEWER, REBUILT)}
    plain = {k: images.get(v, v) if isinstance(v, str) else v for k, v in values.items()}
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in plain.items()}


def tasks(program):
    """Return by service what makes the Swarm replace its tasks when it differs."""
    services = [each.inputs for each in program.of_type(SERVICES)]
    return {each["name"]: each["taskSpec"] | {"placement": None} for each in services}


def test_the_readme_has_the_table_of_the_tests():
    """`python -m tests.changes` prints it anew."""
    text = (ROOT / "README.md").read_text()
    assert f"<!-- changes -->\n{table()}\n<!-- /changes -->" in text


def test_the_table_knows_its_keys(project):
    """Every key is one of the config's, and every row tries what it names."""
    for change in CHANGES:
        assert set(change.keys) <= set(project["config"])
        assert set(change.tried) <= set(change.keys)
        assert change.tried


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.what)
def test_a_change_touches_only_what_it_must(run, change):
    """Only the tasks that the table names are declared another way."""
    usual = as_text(change.base | ({} if "workers" in change.keys else {"workers": 2}))
    before, after = tasks(run(**usual)), tasks(run(**usual | as_text(change.tried)))
    assert before.keys() == after.keys()
    assert set(change.restarts) == {name for name in before if before[name] != after[name]}
