"""Prefect as the program declares it: a server of its own, somebody else's, or none."""

import base64
import json

import pytest

from components import prefect
from tests.program.test_front import AUTHELIA, LOCAL, files_of
from tests.program.test_program import request_of

SECRET = "docker:index/secret:Secret"
SERVICE = "dask_prefect"
MANAGED = {"prefect": "managed"}
EXTERNAL = {"prefect": "external", "prefectApiUrl": "http://prefect.example.org:4200/api"}
OWN_API = "http://dask_prefect:4200/api"


def variables(program):
    """Return the environment of work, which must not be readable in the engine's state."""
    secrets = [each for each in program.of_type(SECRET) if each.name == "dask-environment"]
    if not secrets:
        return {}
    assert {"data"} == secrets[0].secret
    return json.loads(base64.b64decode(secrets[0].inputs["data"]))


class TestManaged:
    def test_the_server_is_one_on_the_overlay_and_on_caddys_network(self, run):
        """Workers, notebook and Caddy reach it, by its name; nothing is published."""
        service = run(**MANAGED).service(SERVICE)
        assert 1 == service["mode"]["replicated"]["replicas"]
        networks = service["taskSpec"]["networksAdvanceds"]
        assert ["dask-network-overlay-id", "caddy-network-id"] == [each["id"] for each in networks]
        assert {"mode": "dnsrr"} == service["endpointSpec"]
        assert ["node.labels.role==master"] == service["taskSpec"]["placement"]["constraints"]

    def test_without_caddy_it_is_on_the_overlay_alone(self, run):
        """Only the cluster reaches it."""
        networks = run(**MANAGED, caddyMode="none").service(SERVICE)["taskSpec"]
        assert ["dask-network-overlay-id"] == [
            each["id"] for each in networks["networksAdvanceds"]
        ]

    def test_what_it_keeps_is_on_a_volume_that_no_resource_owns(self, run):
        """Neither update nor destroy removes the runs of the past."""
        program = run(**MANAGED)
        (mount,) = program.container(SERVICE)["mounts"]
        assert ("volume", "dask-prefect") == (mount["type"], mount["source"])
        arguments = program.container(SERVICE)["args"]
        assert f"PREFECT_HOME={mount['target']}/prefect" in arguments
        assert not program.of_type("docker:index/volume:Volume")

    def test_two_servers_never_write_to_it(self, run):
        """The old one has stopped before the new one starts."""
        service = run(**MANAGED).service(SERVICE)
        assert "stop-first" == service["updateConfig"]["order"]
        assert "stop-first" == service["rollbackConfig"]["order"]

    def test_it_is_checked_where_it_says_that_it_is_well(self, run):
        """By its port and its API."""
        check = run(**MANAGED).container(SERVICE)["healthcheck"]["tests"]
        assert ["4200", "/api/health"] == check[-2:]

    def test_its_limits_are_the_configs(self, run):
        """What it reserves is what the look at the nodes counts with."""
        program = run(**MANAGED, prefectCpus="0.5", prefectMemory="512MiB")
        resources = program.service(SERVICE)["taskSpec"]["resources"]
        assert {"nanoCpus": 500_000_000, "memoryBytes": 512 * 2**20} == resources["limits"]
        assert {"nanoCpus": 100_000_000, "memoryBytes": 256 * 2**20} == resources["reservation"]

    def test_it_has_at_most_one_variable_and_tells_nobody_of_its_use(self, run):
        """Its settings are in its command line; two variables would restart it without reason."""
        container = run(**MANAGED).container(SERVICE)
        assert {"EXTRA_PIP_PACKAGES"} == set(container["env"])
        assert "PREFECT_SERVER_ANALYTICS_ENABLED=false" in container["args"]

    def test_work_is_told_its_address(self, run):
        """Workers and notebook, in one secret; a server that is missing is an error."""
        program = run(**MANAGED, environment='{"TZ": "UTC"}')
        expected = {"PREFECT_API_URL": OWN_API, "PREFECT_SERVER_EPHEMERAL_ENABLED": "false"}
        assert {**expected, "TZ": "UTC"} == variables(program)
        for name in ("dask_worker", "dask_notebook"):
            files = [each["fileName"] for each in program.container(name)["secrets"]]
            assert "dask_environment" in files

    def test_a_flow_is_part_of_the_proof(self, run):
        """The server is waited for as the other services are; the probe has work's variables."""
        program = run(**MANAGED)
        request = request_of(program)
        secret = {"secret_id": "dask-environment-id", "secret_name": "dask-environment-1a2b3c4"}
        assert {"api_url": OWN_API, "managed": True, **secret} == request["prefect"]
        assert SERVICE in request["services"]
        assert SERVICE not in request["healthy"]

    def test_it_is_ended_before_a_destroy_removes_its_network(self, run):
        """After the cluster that works with it."""
        stdin = run(**MANAGED).command("dask-shutdown-run").inputs["stdin"]
        services = ["dask_scheduler", "dask_worker", "dask_notebook", SERVICE]
        assert services == json.loads(stdin)["services"]


class TestExternal:
    def test_there_is_no_server_and_work_is_told_the_other_one(self, run):
        """Its runs stay where they are; the proof runs a flow there."""
        program = run(**EXTERNAL)
        assert SERVICE not in str(program.resources)
        assert EXTERNAL["prefectApiUrl"] == variables(program)["PREFECT_API_URL"]
        asked = request_of(program)["prefect"]
        assert (EXTERNAL["prefectApiUrl"], False) == (asked["api_url"], asked["managed"])
        assert "prefect_url" not in program.outputs


class TestNone:
    def test_prefect_is_left_alone(self, run):
        """No server, no variables, no flow in the proof."""
        program = run()
        assert {} == variables(program)
        assert request_of(program)["prefect"] is None
        assert SERVICE not in str(program.resources)
        assert "prefect_url" not in program.outputs


class TestFront:
    @pytest.mark.parametrize("config", [LOCAL, AUTHELIA], ids=["managed", "external"])
    def test_it_has_a_name_behind_the_same_login(self, run, config):
        """Whichever Caddy serves it."""
        program = run(**config, **MANAGED, prefectName="flows")
        host = f"flows.{config['domain']}"
        own = config["caddyMode"] == "managed" if "caddyMode" in config else False
        text = files_of(program)["prefect.caddy"] if own else program.outputs["caddyfile"]
        site = text.partition(f"{host} {{")[2]
        assert "import dask_swarm_login" in site
        assert f"dask_swarm_upstream dask_prefect {prefect.PORT}" in site
        assert f"https://{host}" == program.outputs["prefect_url"]

    def test_the_proof_of_the_front_visits_it(self, run):
        """As it does the others."""
        names = json.loads(run(**LOCAL, **MANAGED).command("front-proof-run").inputs["stdin"])
        assert "prefect.localhost" == names["names"]["prefect"]

    @pytest.mark.parametrize("config", [{}, EXTERNAL])
    def test_without_an_own_server_there_is_no_site(self, run, config):
        """Somebody else's server has its own front."""
        program = run(**LOCAL, **config)
        assert "prefect.caddy" not in files_of(program)
        names = json.loads(program.command("front-proof-run").inputs["stdin"])["names"]
        assert {"notebook", "dashboard"} == set(names)

    def test_without_a_front_its_address_is_the_swarms(self, run):
        """As those of notebook and dashboard are."""
        assert "http://dask_prefect:4200" == run(**MANAGED).outputs["prefect_url"]
