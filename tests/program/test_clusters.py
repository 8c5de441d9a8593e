"""The names of several clusters on one Swarm: no cluster uses a name of another."""

import json

import pytest

from tests.program.test_ingress import LOCAL

NAMED = ("service", "network")
AUTO_NAMED = ("serviceConfig", "secret")  # by the logical name and a suffix of 8 characters
EVERYTHING = LOCAL | {"caddyMode": "managed", "prefect": "managed"}
LONGEST = "a" * 25
TASK_ID = "x" * 25


def kind(resource):
    """Return `service` for the type of a service."""
    return resource.type.partition("/")[2].partition(":")[0]


def names(program):
    """Return the names on the Swarm, without the suffixes, but for the network of Caddy."""
    named = {r.inputs["name"] for r in program.resources if kind(r) in NAMED}
    logical = {r.name for r in program.resources if kind(r) in AUTO_NAMED}
    return (named | logical) - {"caddy-network"}


def volumes(program):
    """Return the names of the volumes."""
    services = program.of_type("docker:index/service:Service")
    mounts = [m for s in services for m in s.inputs["taskSpec"]["containerSpec"]["mounts"]]
    return {mount["source"] for mount in mounts if "source" in mount}


def test_all_names_of_a_cluster_begin_with_its_name(run):
    """People see to which cluster an object belongs, and no two clusters have the same names."""
    program = run(**EVERYTHING, clusterName="blue")
    assert {name for name in names(program) if name.startswith(("blue_", "blue-"))} == names(
        program
    )
    assert {"blue-notebook", "blue-prefect", "blue-caddy-data"} == volumes(program)
    default = names(run(**EVERYTHING))
    assert len(default) == len(names(program))
    assert set() == default & names(program)


def test_nothing_in_a_cluster_names_another_cluster(run):
    """Neither its Caddyfile, nor its proofs, nor its variables know a service of the default."""
    program = run(**EVERYTHING, clusterName="blue")
    text = json.dumps([resource.inputs for resource in program.resources])
    for name in ("dask_scheduler", "dask_worker", "dask_notebook", "dask_prefect", "dask_caddy"):
        assert name not in text
        assert name not in program.outputs["caddyfile"]
    assert "import blue_swarm_upstream blue_scheduler 8787" in program.outputs["caddyfile"]
    request = json.loads(program.command("blue-health-run").inputs["stdin"])
    assert "http://blue_prefect:4200/api" == request["prefect"]["api_url"]


def test_inside_a_cluster_the_scheduler_has_the_usual_name(run):
    """`Client("scheduler:8786")` works in every cluster, on its own network."""
    program = run(clusterName="blue")
    (own, caddy) = program.service("blue_scheduler")["taskSpec"]["networksAdvanceds"]
    assert ("blue-network-overlay-id", ["scheduler"]) == (own["id"], own["aliases"])
    assert [] == caddy["aliases"]
    assert "tls://scheduler:8786" == program.outputs["scheduler_address"]
    assert ["blue-network"] == program.container("blue_notebook")["dnsConfig"]["searches"]


def test_two_clusters_under_one_domain_claim_different_names(run):
    """The default cluster keeps the names that its users know."""
    config = {"domain": "example.org", "auth": "basic", "prefect": "managed"}
    urls = [run(**config, clusterName=name).outputs for name in ("dask", "blue")]
    assert ["https://notebook.example.org", "https://blue-notebook.example.org"] == [
        outputs["notebook_url"] for outputs in urls
    ]
    assert "https://blue-dashboard.example.org/status" == urls[1]["dashboard_url"]
    assert "https://blue-prefect.example.org" == urls[1]["prefect_url"]


@pytest.mark.parametrize(("cluster", "file"), [("dask", None), ("blue", "blue-swarm.caddy")])
def test_an_existing_caddy_gets_a_file_of_each_cluster(run, cluster, file):
    """The default cluster's request stays as it was, so that an upgrade installs nothing again."""
    config = {"domain": "example.org", "auth": "basic", "caddyDirectory": "/srv/sites"}
    program = run(**config, clusterName=cluster)
    (install,) = [
        resource
        for resource in program.of_type("command:local:Command")
        if resource.name.endswith("front-delivery")
    ]
    assert file == json.loads(install.inputs["stdin"]).get("file")


def test_the_longest_cluster_name_fits_all_names(run):
    """Docker's limits: 63 characters for services and tasks, 64 for configs and secrets."""
    program = run(**EVERYTHING, clusterName=LONGEST)
    for name in names(program):
        assert len(f"{name}-1a2b3c4") <= 64
    services = program.of_type("docker:index/service:Service")
    assert all(len(service.inputs["name"]) <= 63 for service in services)
    tasks = [f"{LONGEST}_worker.1000.{TASK_ID}", f"{LONGEST}_scheduler.1.{TASK_ID}"]
    assert [63, 63] == [len(task) for task in tasks]
