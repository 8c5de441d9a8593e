"""The table of changes: no change restarts more services than its row lists."""

import json

import pytest

from tests.changes import CHANGES, NEWER, REBUILT

SERVICES = "docker:index/service:Service"
NETWORKS = "docker:index/network:Network"


def as_text(values):
    """Return config values as the engine hands them to a program."""
    images = {tag: f"registry.example.org/dask:{tag}" for tag in (NEWER, REBUILT)}
    plain = {k: images.get(v, v) if isinstance(v, str) else v for k, v in values.items()}
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in plain.items()}


def tasks(program):
    """Return by service the part of its spec whose change makes Swarm replace its tasks."""
    kinds = ("docker:index/serviceConfig:ServiceConfig", "docker:index/secret:Secret")
    files = [file for kind in kinds for file in program.of_type(kind)]
    # New content is a new config or secret, and a new name a new network, with a new id.
    content = {f"{file.name}-id": file.inputs["data"] for file in files}
    content |= {f"{net.name}-id": net.inputs["name"] for net in program.of_type(NETWORKS)}
    specs = {
        service.inputs["name"]: service.inputs["taskSpec"] for service in program.of_type(SERVICES)
    }
    return {
        name: _with_content(spec, content) | {"placement": None} for name, spec in specs.items()
    }


def _with_content(spec, content):
    text = json.dumps(spec)
    for identifier, data in content.items():
        text = text.replace(f'"{identifier}"', f'"{data}"')
    return json.loads(text)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.what)
def test_a_change_restarts_only_the_services_of_its_row(run, change):
    """All other services keep their task specs."""
    usual = as_text(change.base | ({} if "workers" in change.keys else {"workers": 2}))
    before, after = tasks(run(**usual)), tasks(run(**usual | as_text(change.tried)))
    assert before.keys() == after.keys()
    assert set(change.restarts) == {name for name in before if before[name] != after[name]}
