"""The adopted resources of an existing stack, and its import file."""

import json
from contextlib import nullcontext

import pytest

from tools import adopt

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


def test_an_existing_resource_gets_its_id_and_keeps_its_place():
    """With its parents, without resources that do not exist yet."""
    adopted = adopt.adoption(PLANNED, {"dask_worker": "w1", "other": "o1"})
    assert ["dask", "swarm", "dask-workers", "dask-workers-service"] == [
        resource["name"] for resource in adopted
    ]
    assert "w1" == adopted[-1]["id"]


def test_a_stack_of_another_name_is_found_by_the_planned_cluster():
    """Its services have the names that `docker stack deploy` gives a stack of that name."""
    planned = json.loads(json.dumps(PLANNED).replace('"dask', '"blue').replace("blue:", "dask:"))
    adopted = adopt.adoption(planned, {"blue_worker": "w1", "dask_worker": "w2"})
    assert ["w1"] == [resource["id"] for resource in adopted if "id" in resource]


def test_of_an_empty_swarm_nothing_is_adopted():
    """The file is empty, and its import does nothing."""
    assert [] == adopt.adoption(PLANNED, {"other": "o1"})


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}"])
def test_a_file_of_another_form_is_left_alone(text, tmp_path, capsys):
    """The message names the command that writes the file."""
    file = tmp_path / "adopt.json"
    file.write_text(text)
    assert 1 == adopt.main([str(file)])
    assert text == file.read_text()
    printed = capsys.readouterr().err
    assert f"{file} is not what `pulumi preview --import-file` writes\n" == printed


class Manager:
    """The engine of a Swarm that has what `docker stack deploy` made, but no notebook."""

    def __init__(self):
        self.updated = {}

    def services(self):
        labels, networks = {"com.docker.stack.namespace": "dask"}, attached("scheduler")
        template = {"ContainerSpec": {"Image": "i", "Labels": labels}, "Networks": networks}
        ready = {"ContainerSpec": {"Image": "i"}, "Networks": attached(None)[:1]}
        return [service("dask_scheduler", template), service("dask_worker", ready)]

    def networks(self):
        return [{"Name": "dask-network", "Id": "n1", "Scope": "swarm"}]

    def update_service(self, identifier, version, *, task_template, fetch_current_spec):
        assert (7, True) == (version, fetch_current_spec)
        self.updated[identifier] = task_template


def attached(alias):
    aliases = {"Aliases": [alias]} if alias else {}
    return [{"Target": "n1"} | aliases, {"Target": "caddy"} | aliases]


def service(name, template):
    spec = {"Name": name, "TaskTemplate": template}
    return {"ID": f"{name}-id", "Version": {"Index": 7}, "Spec": spec}


@pytest.fixture
def manager(monkeypatch):
    """Return the manager that the program connects to."""
    manager = Manager()
    monkeypatch.setattr(adopt, "connect", lambda *_, **__: nullcontext(manager))
    return manager


@pytest.fixture
def file(tmp_path):
    """Return an import file as the engine writes it."""
    path = tmp_path / "adopt.json"
    path.write_text(json.dumps({"resources": PLANNED}))
    return path


def test_the_file_is_rewritten(file, manager, capsys):
    """Every name is reported; nothing on the Swarm changes."""
    assert 0 == adopt.main([str(file)])
    assert "dask_scheduler-id" == json.loads(file.read_text())["resources"][-1]["id"]
    printed = capsys.readouterr().out
    assert "dask_scheduler: adopted\n" in printed
    assert "dask_notebook: missing, pulumi up creates it\n" in printed
    assert {} == manager.updated


def test_services_are_updated_so_that_they_need_no_replacement(file, manager, capsys):
    """Labels and aliases go for which the provider would replace a service."""
    assert 0 == adopt.main(["--in-place", str(file)])
    template = {"ContainerSpec": {"Image": "i", "Labels": {}}, "Networks": attached("scheduler")}
    template["Networks"][1]["Aliases"] = []
    assert {"dask_scheduler-id": template} == manager.updated
    printed = capsys.readouterr().out
    assert "dask_scheduler: adopted, its tasks restart\n" in printed
    assert "dask_worker: adopted\n" in printed


def test_the_aliases_are_those_that_the_program_declares(run):
    """And no container has a label, which adoption would have to keep."""
    program = run()
    for name in ("dask_scheduler", "dask_worker", "dask_notebook"):
        assert not program.container(name).get("labels")
        networks = program.service(name)["taskSpec"]["networksAdvanceds"]
        wanted = [adopt.ALIASES.get(name.partition("_")[2], []), []][: len(networks)]
        assert wanted == [network.get("aliases", []) for network in networks]


@pytest.mark.parametrize("cluster", ["dask", "blue"])
def test_the_names_are_those_that_the_program_declares(run, cluster):
    """The table follows the program: logical names, and the names on the Swarm."""
    program = run(clusterName=cluster)
    declared = {
        resource.name: resource.inputs["name"]
        for resource in program.resources
        if resource.type.startswith("docker:") and "name" in resource.inputs
    }
    assert adopt.swarm_names(cluster) == declared
