"""The table of the README: it is the one of the tests, and each change declares no more."""

import json

import pytest

from tests.changes import CHANGES, NEWER, REBUILT

SERVICES = "docker:index/service:Service"


def as_text(values):
    """Return config values as the engine hands them to a program."""
    images = {each: f"registry.example.org/dask:{each}" for each in (NEWER, REBUILT)}
    plain = {k: images.get(v, v) if isinstance(v, str) else v for k, v in values.items()}
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in plain.items()}


def tasks(program):
    """Return by service what makes the Swarm replace its tasks when it differs."""
    kinds = ("docker:index/serviceConfig:ServiceConfig", "docker:index/secret:Secret")
    files = [each for kind in kinds for each in program.of_type(kind)]
    # Another content is another config or secret, by another id.
    content = {f"{each.name}-id": each.inputs["data"] for each in files}
    specs = {each.inputs["name"]: each.inputs["taskSpec"] for each in program.of_type(SERVICES)}
    return {
        name: _with_content(spec, content) | {"placement": None} for name, spec in specs.items()
    }


def _with_content(spec, content):
    text = json.dumps(spec)
    for identifier, data in content.items():
        text = text.replace(f'"{identifier}"', f'"{data}"')
    return json.loads(text)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.what)
def test_a_change_touches_only_what_it_must(run, change):
    """Only the tasks that the table names are declared another way."""
    usual = as_text(change.base | ({} if "workers" in change.keys else {"workers": 2}))
    before, after = tasks(run(**usual)), tasks(run(**usual | as_text(change.tried)))
    assert before.keys() == after.keys()
    assert set(change.restarts) == {name for name in before if before[name] != after[name]}
