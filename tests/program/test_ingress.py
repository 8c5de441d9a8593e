"""The ingress as the program declares it: all modes, all logins, and the path of the secrets."""

import base64
import json
import re

import bcrypt
import pytest

from tests.conftest import ROOT

COMMAND = "command:local:Command"
NETWORK = "docker:index/network:Network"
CONFIG = "docker:index/serviceConfig:ServiceConfig"
PASSWORD = "docker-horse-battery"
KEY = "t" * 48  # as the mocks generate everything
LOCAL = {"caddyMode": "managed", "domain": "localhost", "auth": "basic"}
AUTHELIA = {"domain": "example.org", "autheliaPortal": "https://auth.example.org"}
REAL = AUTHELIA | {"caddyMode": "managed", "acmeEmail": "admin@example.org"}
FILES = [
    *("Caddyfile", "certificates.caddy", "dashboard.caddy"),
    *("key.caddy", "login.caddy", "notebook.caddy", "reloader.sh", "site.caddy"),
]


def files_of(program, service="dask_caddy_reloader"):
    """Return the text of a service's files by name, by default the files of the managed Caddy."""
    data = {config.name: config.inputs["data"] for config in program.of_type(CONFIG)}
    return {
        config["fileName"].removeprefix("/etc/caddy/"): base64.b64decode(
            data[config["configId"].removesuffix("-id")]
        ).decode()
        for config in program.container(service)["configs"]
    }


class TestManaged:
    def test_all_files_are_auto_named_configs(self, run):
        """A changed file is a new config; the old config stays until no task needs it."""
        program = run(**LOCAL)
        assert FILES == sorted(files_of(program))
        assert not [config for config in program.of_type(CONFIG) if "name" in config.inputs]

    def test_a_new_network_is_created_before_the_old_network_is_deleted(self, run):
        """The services leave the old network in between; the provider would delete it first."""
        request = run(**LOCAL).requests["front-network"]
        assert (True, False) == (request.deleteBeforeReplaceDefined, request.deleteBeforeReplace)

    @pytest.mark.parametrize(
        "change",
        [
            *({"notebookName": "lab"}, {"basicPassword": PASSWORD}, {"domain": "dask.localhost"}),
            *({"notebookLogin": "true"}, {"auth": "none"}),
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_a_change_of_the_sites_restarts_the_reloader_only(self, run, change):
        """A restart of Caddy would cut off websockets; of the notebook, stop kernels."""
        before, after = run(**LOCAL), run(**LOCAL | change)
        assert ["boot.caddy"] == list(files_of(before, "dask_caddy"))
        for service in ("dask_caddy", "dask_notebook"):
            assert before.service(service) == after.service(service)
        assert files_of(before, "dask_caddy") == files_of(after, "dask_caddy")
        assert files_of(before) != files_of(after)

    def test_the_reloader_runs_on_every_node_that_fits_caddy(self, run):
        """With the same placement and volume, without ports and networks."""
        program = run(**LOCAL, controlPlacement="node.role==manager")
        caddy, reloader = (program.service(f"dask_caddy{end}") for end in ("", "_reloader"))
        assert {"global": True} == reloader["mode"]
        specs = [service["taskSpec"] for service in (caddy, reloader)]
        assert specs[0]["placement"] == specs[1]["placement"]
        containers = [spec["containerSpec"] for spec in specs]
        for key in ("image", "mounts", "user", "capAdds", "capDrops"):
            assert containers[0][key] == containers[1][key]
        assert "ports" not in reloader["endpointSpec"]
        assert ("rollback", "1s") == tuple(
            reloader["updateConfig"][key] for key in ("failureAction", "monitor")
        )
        assert not specs[1].get("networksAdvanceds")

    def test_the_reloader_is_healthy_only_once_caddy_has_accepted_the_sites(self, run):
        """Otherwise an update that Caddy refuses would count as done."""
        container = run(**LOCAL).container("dask_caddy_reloader")
        script = container["args"][1]
        assert ["CMD", "sh", script, "healthy"] == container["healthcheck"]["tests"]
        assert script in [config["fileName"] for config in container["configs"]]

    def test_caddy_and_reloader_use_the_same_socket(self, run):
        """Before and after Caddy loads the Caddyfile, the socket is on the volume of both."""
        program = run(**LOCAL)
        files = files_of(program) | files_of(program, "dask_caddy")
        mount = program.named_volume("dask_caddy")
        socket = f"{mount['target']}/admin.sock"
        assert f"\tadmin unix/{socket}\n" in files["boot.caddy"]
        assert f"\tadmin unix/{socket}\n" in files["Caddyfile"]
        assert f"socket={socket}\n" in files["reloader.sh"]

    def test_the_stack_creates_caddys_network(self, run):
        """Caddy, notebook and scheduler share it."""
        program = run(**LOCAL, caddyNetwork="front-network")
        names = [network.inputs["name"] for network in program.of_type(NETWORK)]
        assert ["dask-network", "front-network"] == sorted(names)
        for name in ("dask_caddy", "dask_notebook", "dask_scheduler"):
            networks = program.service(name)["taskSpec"]["networksAdvanceds"]
            assert "front-network-id" in [network["id"] for network in networks]
        networks = program.service("dask_caddy")["taskSpec"]["networksAdvanceds"]
        assert ["front-network-id"] == [network["id"] for network in networks]

    def test_a_network_shows_which_stack_created_it(self, run):
        """The name is fixed, so a leftover of a killed deployment is known by this label."""
        labels = [network.inputs["labels"] for network in run(**LOCAL).of_type(NETWORK)]
        values = ["uuid of dask-network-overlay-owner", "uuid of front-network-owner"]
        expected = [[{"label": "dask.swarm/owner", "value": value}] for value in values]
        assert expected == sorted(labels, key=str)

    def test_only_caddy_publishes_ports(self, run):
        """80 and 443 on its node, without the routing mesh."""
        program = run(**LOCAL)
        endpoint = program.service("dask_caddy")["endpointSpec"]
        assert "dnsrr" == endpoint["mode"]
        ports = [(port["publishedPort"], port["targetPort"]) for port in endpoint["ports"]]
        assert [(80, 80), (443, 443)] == ports
        assert {"host"} == {port["publishMode"] for port in endpoint["ports"]}
        for name in ("dask_scheduler", "dask_worker", "dask_notebook"):
            assert {"mode": "dnsrr"} == program.service(name)["endpointSpec"]

    def test_caddy_is_not_root_and_may_only_bind_ports(self, run):
        """An ordinary user with the one capability of Caddy's binary."""
        container = run(**LOCAL).container("dask_caddy")
        assert "1000:1000" == container["user"]
        assert (["ALL"], ["NET_BIND_SERVICE"]) == (container["capDrops"], container["capAdds"])

    def test_certificates_are_on_a_volume_that_outlives_the_service(self, run):
        """A new version of Caddy uses the certificates of the old version."""
        program = run(**LOCAL)
        mount = program.named_volume("dask_caddy")
        assert ("volume", "dask-caddy-data") == (mount["type"], mount["source"])
        assert {"XDG_DATA_HOME": mount["target"]} == program.container("dask_caddy")["env"]

    def test_caddys_service_is_well_formed(self, run):
        """Digest, limits, restart policy and health check: nothing is left to defaults."""
        program = run(**LOCAL)
        service, container = program.service("dask_caddy"), program.container("dask_caddy")
        assert "@sha256:" in container["image"]
        assert "any" == service["taskSpec"]["restartPolicy"]["condition"]
        assert ["node.labels.role==master"] == service["taskSpec"]["placement"]["constraints"]
        assert service["taskSpec"]["resources"]["limits"]["memoryBytes"] > 0
        assert ["CMD", "sh", "-c"] == container["healthcheck"]["tests"][:3]
        assert ["8081", "/"] == container["healthcheck"]["tests"][4:]
        assert 1 == program.service("dask_caddy")["mode"]["replicated"]["replicas"]

    def test_the_probe_waits_for_caddy_too(self, run):
        """The deployment is not proven while Caddy is updated or has no Caddyfile."""
        program = run(**LOCAL)
        probe = program.command("dask-health-run")
        request = json.loads(probe.inputs["stdin"])
        assert ["dask_caddy", "dask_caddy_reloader"] == request["healthy"]
        assert set(request["healthy"]) < set(request["services"])

    def test_a_destroy_stops_caddy_too(self, run):
        """Caddy is on a network of the stack, which can be removed only when it is unused."""
        shutdown = run(**LOCAL).command("dask-shutdown-run")
        stopped = json.loads(shutdown.inputs["stdin"])["services"]
        assert "dask_caddy" in stopped
        # Swarm refuses to scale a global service; the reloader is on no network.
        assert "dask_caddy_reloader" not in stopped

    def test_under_localhost_caddy_issues_its_certificates(self, run):
        """No public certificate authority can reach these names."""
        assert "local_certs" in files_of(run(**LOCAL))["certificates.caddy"]

    def test_a_real_domain_gets_its_certificates_by_acme(self, run):
        """Email and directory are from the config."""
        program = run(**REAL, acmeDirectory="https://ca.example.org/acme/acme/directory")
        text = files_of(program)["certificates.caddy"]
        assert "email admin@example.org\n" in text
        assert "acme_ca https://ca.example.org/acme/acme/directory\n" in text


INSTALLED = AUTHELIA | {"caddyDirectory": "/srv/sites/"}
BASIC = {"auth": "basic"}
# Whether the text for an existing Caddy is a secret: it may hold a password's hash or the key.
SECRET_TEXTS = [
    ({}, True),
    ({"auth": "basic"}, True),
    ({"auth": "basic", "notebookLogin": "true"}, True),
    ({"notebookLogin": "true"}, False),
]


class TestInstallation:
    def installation_of(self, program):
        return program.command("front-delivery")

    def test_puts_the_text_where_caddy_imports_it(self, run):
        """On this machine, if the manager is not reached by SSH."""
        program = run(**INSTALLED, caddyService="edge_caddy")
        inputs = self.installation_of(program).inputs
        expected = {
            "host": "",
            "directory": "/srv/sites",
            "main_file": "/etc/caddy/Caddyfile",
            "service": "edge_caddy",
            "text": program.outputs["caddyfile"],
        }
        assert expected == json.loads(inputs["stdin"])
        assert inputs["create"].endswith("caddy.install put")
        assert inputs["delete"].endswith("caddy.install remove")

    @pytest.mark.parametrize(
        ("config", "host"),
        [
            ({"dockerHost": "ssh://deploy@manager"}, "ssh://deploy@manager"),
            ({"dockerHost": "ssh://deploy@manager", "caddyHost": "ssh://a@b:2"}, "ssh://a@b:2"),
            ({"dockerHost": "tcp://manager:2376", "caddyHost": "ssh://a@b"}, "ssh://a@b"),
        ],
    )
    def test_uses_ssh_to_another_host(self, run, config, host):
        """To the manager as for Docker, or to `caddyHost`."""
        installation = self.installation_of(run(**INSTALLED, **config))
        assert host == json.loads(installation.inputs["stdin"])["host"]

    def test_another_text_updates_and_another_place_replaces_the_resource(self, run):
        """The old file is removed, and an update never removes the file."""
        before = self.installation_of(run(**INSTALLED)).inputs
        renamed = self.installation_of(run(**INSTALLED, notebookName="lab")).inputs
        moved = self.installation_of(run(**INSTALLED, caddyHost="ssh://a@b")).inputs
        assert before["stdin"] != renamed["stdin"]
        assert before["triggers"] == renamed["triggers"]
        assert before["triggers"] != moved["triggers"]

    @pytest.mark.parametrize(("config", "secret"), SECRET_TEXTS)
    def test_a_text_with_a_key_or_hash_is_a_secret(self, run, config, secret):
        """Pulumi encrypts it in the state."""
        assert secret == ("stdin" in self.installation_of(run(**INSTALLED | config)).secret)

    def test_installed_sites_are_proven(self, run):
        """The deployment is responsible for them."""
        program = run(**INSTALLED)
        assert program.command("front-proof-run")
        assert "front" in program.outputs["health"]


class TestDocumentation:
    def test_joins_an_existing_caddy_and_authelia_in_five_lines(self, run):
        """The page's lines are enough for sites that are installed and proven."""
        page = (ROOT / "docs" / "ingress.md").read_text(encoding="utf-8")
        section = page.partition("## With the Caddy that you have")[2]
        block = section.partition("```sh\n")[2].partition("```")[0]
        lines = re.findall(r"^pulumi config set (\w+) (\S+)", block, re.MULTILINE)
        assert 5 == len(lines) == len(block.splitlines())
        program = run(**dict(lines))
        assert "https://notebook.example.org" == program.outputs["notebook_url"]
        assert "forward_auth authelia:9091" in program.outputs["caddyfile"]
        assert {"front-delivery", "front-proof-run"} <= {
            command.name for command in program.of_type(COMMAND)
        }


class TestExternal:
    def test_no_caddy_is_declared(self, run):
        """An existing Caddy keeps its network, its service and its files."""
        program = run(**AUTHELIA)
        assert 3 == len(program.of_type("docker:index/service:Service"))
        assert ["dask-network"] == [network.inputs["name"] for network in program.of_type(NETWORK)]

    def test_the_text_is_an_output(self, run):
        """A user can paste it: snippets first, then the sites, as Caddy needs them."""
        text = run(**AUTHELIA).outputs["caddyfile"]
        parts = ["(dask_swarm_site)", "(dask_swarm_login)", "notebook.example.org {"]
        assert sorted(parts, key=text.index) == parts
        assert "dashboard.example.org {" in text
        assert "{$" not in text
        assert "admin" not in text


@pytest.mark.parametrize(("mode", "domain"), [("external", ""), ("none", "example.org")])
def test_without_ingress_no_site_is_declared(run, mode, domain):
    """No Caddyfile, no login, no Caddy; the URLs are those of the Swarm's services."""
    program = run(caddyMode=mode, domain=domain)
    assert "" == program.outputs["caddyfile"]
    assert "http://dask_notebook:8888" == program.outputs["notebook_url"]
    assert ("", "") == (program.outputs["login_user"], program.outputs["login_password"])
    assert 3 == len(program.of_type("docker:index/service:Service"))


@pytest.mark.parametrize("config", [LOCAL, REAL, AUTHELIA], ids=["local", "managed", "external"])
def test_the_urls_have_the_names_of_the_sites(run, config):
    """As outputs for the user."""
    outputs = run(**config, notebookName="lab").outputs
    assert f"https://lab.{config['domain']}" == outputs["notebook_url"]
    assert f"https://dashboard.{config['domain']}/status" == outputs["dashboard_url"]


class TestAuthelia:
    def test_the_current_endpoint_is_the_default(self, run):
        """Authelia 4.38 and later know the URL of their portal."""
        text = run(**AUTHELIA).outputs["caddyfile"]
        assert "forward_auth authelia:9091 {\n\t\turi /api/authz/forward-auth\n" in text

    def test_the_legacy_endpoint_gets_the_portals_url(self, run):
        """Older versions do not know it."""
        text = run(**AUTHELIA, autheliaEndpoint="/api/verify").outputs["caddyfile"]
        assert "uri /api/verify?rd=https://auth.example.org\n" in text

    def test_an_address_may_have_a_scheme_and_a_path(self, run):
        """The endpoint is below the path, the upstream is HTTPS."""
        config = {"autheliaAddress": "https://example.org/auth", "autheliaEndpoint": "/api/verify"}
        portal = {"autheliaPortal": "https://example.org/auth"}
        text = run(**AUTHELIA | portal, **config).outputs["caddyfile"]
        assert "forward_auth https://example.org {\n" in text
        assert "uri /auth/api/verify?rd=https://example.org/auth\n" in text

    def test_address_and_cookie_are_from_the_config(self, run):
        """Authelia may have another port and another cookie."""
        program = run(**AUTHELIA, autheliaAddress="login:80", autheliaCookie="sso")
        text = program.outputs["caddyfile"]
        assert "forward_auth login:80 {" in text
        assert r'"(^|;)\s*sso=[^;]*"' in text


class TestBasic:
    def hash_of(self, program):
        login = files_of(program)["login.caddy"]
        (line,) = [line for line in login.splitlines() if "$2b$" in line]
        user, password_hash = line.split()
        assert "dask" == user
        return password_hash

    def test_a_generated_password_is_a_secret_output(self, run):
        """The user reads it with --show-secrets."""
        program = run(**LOCAL)
        assert ("dask", "t" * 48) == (
            program.outputs["login_user"],
            program.outputs["login_password"],
        )
        assert {"login_password", "notebook_token"} <= program.secret_outputs
        assert bcrypt.checkpw(b"t" * 48, self.hash_of(program).encode())

    def test_a_password_from_the_config_is_nowhere_in_plain_text(self, run):
        """Caddy gets its hash only."""
        program = run(**LOCAL, basicPassword=PASSWORD)
        encoded = base64.b64encode(PASSWORD.encode()).decode()
        for resource in program.resources:
            plain = {k: v for k, v in resource.inputs.items() if k not in resource.secret}
            assert PASSWORD not in json.dumps(plain)
            assert encoded not in json.dumps(resource.inputs)
        assert "login_password" in program.secret_outputs
        assert bcrypt.checkpw(PASSWORD.encode(), self.hash_of(program).encode())

    def test_the_hash_stays_the_same(self, run):
        """A second deployment changes no file of Caddy."""
        assert files_of(run(**LOCAL)) == files_of(run(**LOCAL, again=True))

    @pytest.mark.parametrize(("config", "secret"), SECRET_TEXTS)
    def test_a_text_with_a_key_or_hash_is_a_secret_output(self, run, config, secret):
        """Pulumi shows it only with --show-secrets."""
        assert secret == ("caddyfile" in run(**AUTHELIA | config).secret_outputs)

    @pytest.mark.parametrize(("config", "cookie"), [(LOCAL, True), (INSTALLED | BASIC, False)])
    def test_a_managed_caddy_accepts_a_cookie_instead_of_the_password(self, run, config, cookie):
        """Only Caddy mounts the cookie's secret; an existing Caddy always needs the password."""
        program = run(**config)
        text = program.outputs["caddyfile"]
        assert cookie == ("{file./run/secrets/front_session}" in text)
        assert cookie == ("Set-Cookie" in text)
        names = {"dask_caddy", "dask_notebook"} if cookie else {"dask_notebook"}
        mounted = {
            name
            for name in names
            if "front_session" in [s["fileName"] for s in program.container(name)["secrets"]]
        }
        assert ({"dask_caddy"} if cookie else set()) == mounted


class TestKey:
    """The ingress key, by which Caddy opens the notebook to logged-in users."""

    def key_of(self, program, service):
        """Return the id of a service's secret with the key, None without a key."""
        secrets = program.container(service)["secrets"]
        return next((s["secretId"] for s in secrets if s["fileName"] == "front_key"), None)

    def test_a_managed_caddy_reads_it_from_a_swarm_secret(self, run):
        """Caddy and notebook mount the same secret; no file of Caddy holds the key."""
        program = run(**LOCAL)
        assert "front-key-id" == self.key_of(program, "dask_caddy")
        assert "front-key-id" == self.key_of(program, "dask_notebook")
        expected = "header_up Proxy-Authorization {file./run/secrets/front_key}"
        assert expected in files_of(program)["key.caddy"]
        assert KEY not in "".join(files_of(program).values())

    def test_an_existing_caddy_gets_the_key_in_its_text(self, run):
        """The stack cannot mount a file there."""
        program = run(**AUTHELIA)
        assert "front-key-id" == self.key_of(program, "dask_notebook")
        assert f"header_up Proxy-Authorization {KEY}\n" in program.outputs["caddyfile"]

    @pytest.mark.parametrize(
        "config",
        [
            AUTHELIA | {"notebookLogin": "true"},
            LOCAL | {"notebookLogin": "true"},
            LOCAL | {"auth": "none"},
            {"domain": "localhost", "auth": "none"},
        ],
        ids=["external", "managed", "no-login", "external-no-login"],
    )
    def test_where_jupyter_asks_for_a_login_caddy_sends_no_key(self, run, config):
        """Caddy removes a client's header, and the proof logs in at Jupyter."""
        program = run(**config)
        text = program.outputs["caddyfile"]
        assert "header_up -Proxy-Authorization\n" in text
        assert "header_up Proxy-Authorization" not in text
        assert KEY not in text
        for command in program.of_type(COMMAND):
            if command.name == "front-proof-run":
                assert KEY == json.loads(command.inputs["stdin"])["notebook_token"]

    @pytest.mark.parametrize("config", [{}, AUTHELIA | {"caddyMode": "none"}])
    def test_without_ingress_no_site_is_declared(self, run, config):
        """The notebook's token opens it, with any `notebookLogin`."""
        program = run(**config)
        assert ["notebook_token", "dask_certificate"] == [
            secret["fileName"] for secret in program.container("dask_notebook")["secrets"]
        ]
        assert KEY == program.outputs["notebook_token"]

    def test_is_in_no_plain_input(self, run):
        """Neither key nor token is visible in services and configs."""
        for resource in run(**LOCAL).resources:
            plain = {k: v for k, v in resource.inputs.items() if k not in resource.secret}
            assert KEY not in json.dumps(plain)
            assert base64.b64encode(KEY.encode()).decode() not in json.dumps(plain)


class TestProof:
    def request_of(self, program):
        proof = program.command("front-proof-run")
        assert {"stdin"} <= proof.secret
        return json.loads(proof.inputs["stdin"])

    def test_joins_the_health_output(self, run):
        """The user sees one proof, which is not secret."""
        program = run(**LOCAL)
        assert 4 == program.outputs["health"]["workers"]
        assert program.outputs["health"]["front"]["login_tried"]
        assert "health" not in program.secret_outputs

    def test_uses_the_generated_password_only(self, run):
        """A basic login always has credentials, and they open the notebook too."""
        request = self.request_of(run(**LOCAL))
        assert {"notebook": "notebook.localhost", "dashboard": "dashboard.localhost"} == request[
            "names"
        ]
        assert ("basic", "dask", "t" * 48) == (
            request["auth"],
            request["user"],
            request["password"],
        )
        assert ("", "") == (request["notebook_token"], request["notebook_password"])
        assert ["10.77.0.11", "127.0.0.1"] == request["addresses"]
        assert request["verified"] is False

    @pytest.mark.parametrize(
        ("config", "token", "password"),
        [({}, "t" * 48, ""), ({"notebookPassword": PASSWORD}, "", PASSWORD)],
        ids=["token", "password"],
    )
    def test_logs_in_at_jupyter_if_jupyter_asks(self, run, config, token, password):
        """Behind Caddy's login, with the notebook's token or password."""
        request = self.request_of(run(**LOCAL, notebookLogin="true", **config))
        assert (token, password) == (request["notebook_token"], request["notebook_password"])

    def test_does_not_use_the_notebooks_password_by_default(self, run):
        """The ingress key opens the notebook."""
        request = self.request_of(run(**LOCAL, notebookPassword=PASSWORD))
        assert ("", "") == (request["notebook_token"], request["notebook_password"])

    def test_uses_dns_and_verifies_certificates_of_a_real_domain(self, run):
        """As a browser does."""
        request = self.request_of(run(**REAL))
        assert ([], True) == (request["addresses"], request["verified"])
        assert ("authelia", "https://auth.example.org") == (request["auth"], request["portal"])
        assert ("", "") == (request["user"], request["password"])

    def test_logs_in_at_authelia_if_it_has_an_account(self, run):
        """The part of the proof behind the login needs a user."""
        program = run(**REAL, autheliaUser="probe", autheliaPassword=PASSWORD)
        request = self.request_of(program)
        assert ("probe", PASSWORD) == (request["user"], request["password"])

    def test_does_not_run_where_the_user_installs_the_text(self, run):
        """The deployment cannot know when the sites are served."""
        program = run(**AUTHELIA)
        names = {command.name for command in program.of_type(COMMAND)}
        others = {"dask-upgrade-run", "dask-network-overlay-release", "dask-shutdown-run"}
        assert {"dask-health-run"} | others == names
        assert "front" not in program.outputs["health"]

    @pytest.mark.parametrize(
        "change",
        [{"notebookName": "lab"}, {"basicPassword": PASSWORD}],
        ids=lambda change: next(iter(change)),
    )
    def test_runs_again_when_what_it_depends_on_changes(self, run, change):
        """A new name or password is proven; unchanged sites are not proven again."""
        assert self.keepers(run(**LOCAL)) == self.keepers(run(**LOCAL, again=True))
        assert self.keepers(run(**LOCAL)) != self.keepers(run(**LOCAL, **change))

    def test_runs_again_with_another_caddyfile(self, run):
        """Another address of Authelia is not in the proof's request."""
        changed = run(**REAL, autheliaAddress="login:80")
        assert self.request_of(run(**REAL)) == self.request_of(changed)
        assert self.keepers(run(**REAL)) != self.keepers(changed)

    def test_runs_again_after_the_cluster_is_proven_again(self, run):
        """The cluster's new attempt may have replaced what the ingress leads to."""
        program = run(**LOCAL)
        assert "0123456789abcdef" * 2 == self.keepers(program)["probe"]
        assert "dask-health-attempt" in program.dependencies("front-proof-attempt")

    def keepers(self, program):
        attempts = program.of_type("random:index/randomId:RandomId")
        (attempt,) = [a for a in attempts if a.name == "front-proof-attempt"]
        return attempt.inputs["keepers"]

    def test_runs_after_the_health_probe(self, run):
        """Before, the sites have no upstreams."""
        names = [command.name for command in run(**LOCAL).of_type(COMMAND)]
        assert names.index("dask-health-run") < names.index("front-proof-run")
