"""Prefect as the program declares it: a managed server, an external server, or none."""

import base64
import json

import pytest

from components import prefect
from tests.program.test_ingress import AUTHELIA, KEY, LOCAL, files_of
from tests.program.test_program import request_of

SECRET = "docker:index/secret:Secret"
SERVICE = "dask_prefect"
MANAGED = {"prefect": "managed"}
EXTERNAL = {"prefect": "external", "prefectApiUrl": "http://prefect.example.org:4200/api"}
MANAGED_API = "http://dask_prefect:4200/api"


def variables(program):
    """Return the variables of work, which Pulumi must encrypt in its state."""
    secrets = [secret for secret in program.of_type(SECRET) if secret.name == "dask-environment"]
    if not secrets:
        return {}
    assert {"data"} == secrets[0].secret
    return json.loads(base64.b64decode(secrets[0].inputs["data"]))


def services_with_key(program):
    """Return the names of the services that mount Prefect's key."""
    specs = [service.inputs for service in program.of_type("docker:index/service:Service")]
    return {
        spec["name"]
        for spec in specs
        for secret in spec["taskSpec"]["containerSpec"]["secrets"]
        if secret["fileName"] == "prefect_key"
    }


class TestManaged:
    def test_one_server_is_on_the_overlay_and_on_caddys_network(self, run):
        """Workers, notebook and Caddy reach it by its name; no port is published."""
        service = run(**MANAGED).service(SERVICE)
        assert 1 == service["mode"]["replicated"]["replicas"]
        networks = service["taskSpec"]["networksAdvanceds"]
        ids = [network["id"] for network in networks]
        assert ["dask-network-overlay-id", "caddy-network-id"] == ids
        assert {"mode": "dnsrr"} == service["endpointSpec"]
        assert ["node.labels.role==master"] == service["taskSpec"]["placement"]["constraints"]

    def test_without_caddy_it_is_on_the_overlay_only(self, run):
        """Only the cluster reaches it."""
        service = run(**MANAGED, caddyMode="none").service(SERVICE)
        networks = service["taskSpec"]["networksAdvanceds"]
        assert ["dask-network-overlay-id"] == [network["id"] for network in networks]

    def test_its_data_is_on_a_volume_that_no_resource_owns(self, run):
        """Neither update nor destroy removes old flow runs."""
        program = run(**MANAGED)
        mount = program.named_volume(SERVICE)
        assert ("volume", "dask-prefect") == (mount["type"], mount["source"])
        arguments = program.container(SERVICE)["args"]
        assert f"PREFECT_HOME={mount['target']}/prefect" in arguments
        assert not program.of_type("docker:index/volume:Volume")

    def test_two_servers_never_write_to_one_database(self, run):
        """The old server stops before the new server starts."""
        service = run(**MANAGED).service(SERVICE)
        assert "stop-first" == service["updateConfig"]["order"]
        assert "stop-first" == service["rollbackConfig"]["order"]

    def test_its_health_check_asks_its_api(self, run):
        """By port and path."""
        check = run(**MANAGED).container(SERVICE)["healthcheck"]["tests"]
        assert ["4200", "/api/health"] == check[-2:]

    def test_its_guard_knows_the_clusters_network(self, run):
        """uvicorn loads the guard, and shows it the client's own address."""
        container = run(**MANAGED).container(SERVICE)
        files = [config["fileName"] for config in container["configs"]]
        assert ["/etc/dask-swarm/prefect_server.py", "/etc/dask-swarm/subnets.json"] == files
        folder = container["args"][container["args"].index("--app-dir") + 1]
        assert f"{folder}/prefect_server.py" in files
        assert "prefect_server:create_guarded_app" in container["args"]
        assert "--no-proxy-headers" in container["args"]

    @pytest.mark.parametrize("proof", ["full", "quick"])
    def test_caddys_network_is_proven_to_need_the_key(self, run, proof):
        """For page and API; without Caddy's network there is nothing to prove."""
        urls = request_of(run(**MANAGED, proof=proof))["closed_urls"]
        base = "http://dask_prefect.caddy-network:4200"
        assert [f"{base}/", f"{base}/api/admin/version"] == urls
        assert [] == request_of(run(**MANAGED, caddyMode="none"))["closed_urls"]
        assert [] == request_of(run(**EXTERNAL))["closed_urls"]

    def test_its_limits_are_from_the_config(self, run):
        """It reserves what the pre-flight counts for it."""
        program = run(**MANAGED, prefectCpus="0.5", prefectMemory="512MiB")
        resources = program.service(SERVICE)["taskSpec"]["resources"]
        assert {"nanoCpus": 500_000_000, "memoryBytes": 512 * 2**20} == resources["limits"]
        assert {"nanoCpus": 100_000_000, "memoryBytes": 256 * 2**20} == resources["reservation"]

    def test_it_has_at_most_one_variable_and_sends_no_analytics(self, run):
        """Its settings are in its command line: two variables would restart it without reason."""
        container = run(**MANAGED).container(SERVICE)
        assert {"EXTRA_PIP_PACKAGES"} == set(container["env"])
        assert "PREFECT_SERVER_ANALYTICS_ENABLED=false" in container["args"]

    def test_work_gets_its_url(self, run):
        """Workers and notebook, in one secret; a missing server is an error."""
        program = run(**MANAGED, environment='{"TZ": "UTC"}')
        expected = {"PREFECT_API_URL": MANAGED_API, "PREFECT_SERVER_EPHEMERAL_ENABLED": "false"}
        assert {**expected, "TZ": "UTC"} == variables(program)
        for name in ("dask_worker", "dask_notebook"):
            files = [secret["fileName"] for secret in program.container(name)["secrets"]]
            assert "dask_environment" in files

    def test_a_flow_is_part_of_the_proof(self, run):
        """The probe waits for the server too, and has the variables of work."""
        program = run(**MANAGED)
        request = request_of(program)
        secret = {"secret_id": "dask-environment-id", "secret_name": "dask-environment-1a2b3c4"}
        assert {"api_url": MANAGED_API, "managed": True, **secret} == request["prefect"]
        assert SERVICE in request["services"]
        assert SERVICE not in request["healthy"]

    def test_a_destroy_stops_it_before_its_network_is_removed(self, run):
        """After the cluster, which uses it."""
        stdin = run(**MANAGED).command("dask-shutdown-run").inputs["stdin"]
        services = ["dask_scheduler", "dask_worker", "dask_notebook", SERVICE]
        assert services == json.loads(stdin)["services"]


class TestExternal:
    def test_no_server_is_declared_and_work_gets_the_external_url(self, run):
        """The proof runs a flow on it."""
        program = run(**EXTERNAL)
        assert SERVICE not in str(program.resources)
        assert EXTERNAL["prefectApiUrl"] == variables(program)["PREFECT_API_URL"]
        request = request_of(program)["prefect"]
        assert (EXTERNAL["prefectApiUrl"], False) == (request["api_url"], request["managed"])
        assert "prefect_url" not in program.outputs


class TestNone:
    def test_prefect_is_not_used(self, run):
        """No server, no variables, no flow in the proof."""
        program = run()
        assert {} == variables(program)
        assert request_of(program)["prefect"] is None
        assert SERVICE not in str(program.resources)
        assert "prefect_url" not in program.outputs


class TestIngress:
    @pytest.mark.parametrize("config", [LOCAL, AUTHELIA], ids=["managed", "external"])
    def test_it_has_a_site_behind_the_same_login(self, run, config):
        """Of a managed and of an existing Caddy."""
        program = run(**config, **MANAGED, prefectName="flows")
        host = f"flows.{config['domain']}"
        managed = config.get("caddyMode") == "managed"
        text = files_of(program)["prefect.caddy"] if managed else program.outputs["caddyfile"]
        site = text.partition(f"{host} {{")[2]
        assert "import dask_swarm_login" in site
        assert f"dask_swarm_upstream dask_prefect {prefect.PORT} {{\n" in site
        assert "import dask_swarm_prefect_key" in site
        assert f"https://{host}" == program.outputs["prefect_url"]

    @pytest.mark.parametrize("asks", ["true", "false"])
    def test_a_managed_caddy_reads_its_key_from_a_swarm_secret(self, run, asks):
        """Its own key, even if the notebook asks; only Caddy and Prefect mount it."""
        program = run(**LOCAL, **MANAGED, notebookLogin=asks)
        assert {"dask_caddy", SERVICE} == services_with_key(program)
        ids = {s["secretId"] for s in program.container(SERVICE)["secrets"]}
        assert {"front-prefect-key-id"} == ids
        text = files_of(program)["key.caddy"].partition("dask_swarm_prefect_key")[2]
        assert "header_up Proxy-Authorization {file./run/secrets/prefect_key}" in text

    def test_an_existing_caddy_gets_its_key_in_its_text(self, run):
        """The output is a secret, even if the notebook asks and its key is not in the text."""
        program = run(**AUTHELIA, **MANAGED, notebookLogin="true")
        assert {SERVICE} == services_with_key(program)
        text = program.outputs["caddyfile"].partition("dask_swarm_prefect_key")[2]
        assert f"header_up Proxy-Authorization {KEY}\n" in text
        assert "caddyfile" in program.secret_outputs

    @pytest.mark.parametrize("config", [LOCAL, AUTHELIA | MANAGED | {"caddyMode": "none"}])
    def test_without_server_or_ingress_there_is_no_key(self, run, config):
        """No service on Caddy's network gets in then."""
        assert not services_with_key(run(**config))

    def test_the_ingress_proof_includes_it(self, run):
        """As the other sites."""
        names = json.loads(run(**LOCAL, **MANAGED).command("front-proof-run").inputs["stdin"])
        assert "prefect.localhost" == names["names"]["prefect"]

    @pytest.mark.parametrize("config", [{}, EXTERNAL])
    def test_without_a_managed_server_it_has_no_site(self, run, config):
        """An external server has its own URL."""
        program = run(**LOCAL, **config)
        assert "prefect.caddy" not in files_of(program)
        names = json.loads(program.command("front-proof-run").inputs["stdin"])["names"]
        assert {"notebook", "dashboard"} == set(names)

    def test_without_ingress_its_url_is_the_services(self, run):
        """As for notebook and dashboard."""
        assert "http://dask_prefect:4200" == run(**MANAGED).outputs["prefect_url"]
