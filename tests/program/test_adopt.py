"""What of an existing stack is taken over, and what the engine is told of it."""

import json

import pytest

import adopt

SERVICE = "docker:index/service:Service"
PLANNED = [
    {"type": "dask:swarm:DaskCluster", "name": "dask", "component": True},
    {"type": "dask:swarm:HealthProbe", "name": "dask-health", "component": True},
    {"type": "pulumi:providers:docker", "name": "swarm", "inputs": {"host": "unix:///x"}},
    {"type": "dask:swarm:Workers", "name": "dask-workers", "parent": "dask", "component": True},
    {"type": "dask:swarm:Scheduler", "name": "dask-scheduler", "parent": "dask"},
    {"type": SERVICE, "name": "dask-workers-service", "id": "?", "parent": "dask-workers"},
    {"type": SERVICE, "name": "dask-scheduler-service", "id": "?", "parent": "dask-scheduler"},
    {"type": "command:local:Command", "name": "dask-health-run", "id": "?"},
]


def test_what_is_there_gets_its_id_and_keeps_its_place():
    """With all that holds it, and nothing that is still to be made."""
    adopted = adopt.adoption(PLANNED, {"dask_worker": "w1", "other": "o1"})
    assert ["dask", "swarm", "dask-workers", "dask-workers-service"] == [
        each["name"] for each in adopted
    ]
    assert "w1" == adopted[-1]["id"]


def test_where_nothing_is_there_nothing_is_taken_over():
    """The file is then empty, and an import of it does nothing."""
    assert [] == adopt.adoption(PLANNED, {"other": "o1"})


@pytest.mark.parametrize("text", ["", "{", "[1"])
def test_a_file_that_is_none_is_left_alone(text, tmp_path, capsys):
    """The message is the reader's own."""
    file = tmp_path / "adopt.json"
    file.write_text(text)
    assert 1 == adopt.main([str(file)])
    assert text == file.read_text()
    assert capsys.readouterr().err


def test_the_file_is_rewritten_and_told(tmp_path, monkeypatch, capsys):
    """Each of the names is said to be there or not."""
    monkeypatch.setattr(adopt, "_ids_at", lambda _: {"dask_scheduler": "s1"})
    file = tmp_path / "adopt.json"
    file.write_text(json.dumps({"resources": PLANNED}))
    assert 0 == adopt.main([str(file)])
    assert "s1" == json.loads(file.read_text())["resources"][-1]["id"]
    said = capsys.readouterr().out
    assert "dask_scheduler: taken over" in said
    assert "dask_worker: not there, pulumi up creates it" in said


def test_the_names_are_those_that_the_program_declares(run):
    """The table follows the program: logical names, and the names on the Swarm."""
    program = run()
    declared = {
        each.name: each.inputs["name"]
        for each in program.resources
        if each.type.startswith("docker:") and "name" in each.inputs
    }
    assert adopt.NAMES == declared
