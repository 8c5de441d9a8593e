"""The front as the program declares it: each mode, each login, and where the secrets go."""

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
    """Return the text of each file that a service has, by default what Caddy is handed."""
    data = {each.name: each.inputs["data"] for each in program.of_type(CONFIG)}
    mounted = program.container(service)["configs"]
    return {
        each["fileName"].removeprefix("/etc/caddy/"): base64.b64decode(
            data[each["configId"].removesuffix("-id")]
        ).decode()
        for each in mounted
    }


class TestManaged:
    def test_all_files_are_mounted_as_configs_without_a_name(self, run):
        """A changed file is a new config, so that the old one can serve until the end."""
        program = run(**LOCAL)
        assert FILES == sorted(files_of(program))
        assert not [each for each in program.of_type(CONFIG) if "name" in each.inputs]

    @pytest.mark.parametrize(
        "change",
        [
            *({"notebookName": "lab"}, {"basicPassword": PASSWORD}, {"domain": "dask.localhost"}),
            *({"notebookLogin": "true"}, {"auth": "none"}),
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_no_change_of_the_sites_touches_a_task_but_the_reloaders(self, run, change):
        """The files are the reloader's; new tasks would cut off websockets and end kernels."""
        before, after = run(**LOCAL), run(**LOCAL | change)
        assert ["boot.caddy"] == list(files_of(before, "dask_caddy"))
        for service in ("dask_caddy", "dask_notebook"):
            assert before.service(service) == after.service(service)
        assert files_of(before, "dask_caddy") == files_of(after, "dask_caddy")
        assert files_of(before) != files_of(after)

    def test_the_reloader_is_wherever_caddy_may_be(self, run):
        """One on each node that takes Caddy, on the same volume, with nothing but the files."""
        program = run(**LOCAL, controlPlacement="node.role==manager")
        caddy, reloader = (program.service(f"dask_caddy{end}") for end in ("", "_reloader"))
        assert {"global": True} == reloader["mode"]
        specs = [each["taskSpec"] for each in (caddy, reloader)]
        assert specs[0]["placement"] == specs[1]["placement"]
        containers = [each["containerSpec"] for each in specs]
        for key in ("image", "mounts", "user", "capAdds", "capDrops"):
            assert containers[0][key] == containers[1][key]
        assert "ports" not in reloader["endpointSpec"]
        assert ("rollback", "1s") == tuple(
            reloader["updateConfig"][key] for key in ("failureAction", "monitor")
        )
        assert not specs[1].get("networksAdvanceds")

    def test_caddy_and_reloader_name_the_same_socket(self, run):
        """Before and after the Caddyfile is loaded, it is on the volume that both mount."""
        program = run(**LOCAL)
        files = files_of(program) | files_of(program, "dask_caddy")
        (mount,) = program.container("dask_caddy")["mounts"]
        socket = f"{mount['target']}/admin.sock"
        assert f"\tadmin unix/{socket}\n" in files["boot.caddy"]
        assert f"\tadmin unix/{socket}\n" in files["Caddyfile"]
        assert f"socket={socket}\n" in files["reloader.sh"]

    def test_the_network_is_the_stacks_own(self, run):
        """Caddy, notebook and scheduler share a network that the stack creates."""
        program = run(**LOCAL, caddyNetwork="front-network")
        names = [each.inputs["name"] for each in program.of_type(NETWORK)]
        assert ["dask-network", "front-network"] == sorted(names)
        for name in ("dask_caddy", "dask_notebook", "dask_scheduler"):
            networks = program.service(name)["taskSpec"]["networksAdvanceds"]
            assert "front-network-id" in [each["id"] for each in networks]
        networks = program.service("dask_caddy")["taskSpec"]["networksAdvanceds"]
        assert ["front-network-id"] == [each["id"] for each in networks]

    def test_only_caddy_publishes_and_only_http(self, run):
        """80 and 443 on the node that it runs on, without the routing mesh."""
        program = run(**LOCAL)
        endpoint = program.service("dask_caddy")["endpointSpec"]
        assert "dnsrr" == endpoint["mode"]
        ports = [(each["publishedPort"], each["targetPort"]) for each in endpoint["ports"]]
        assert [(80, 80), (443, 443)] == ports
        assert {"host"} == {each["publishMode"] for each in endpoint["ports"]}
        for name in ("dask_scheduler", "dask_worker", "dask_notebook"):
            assert {"mode": "dnsrr"} == program.service(name)["endpointSpec"]

    def test_caddy_is_no_root_and_may_bind_ports_alone(self, run):
        """An ordinary user with the one capability that its program carries."""
        container = run(**LOCAL).container("dask_caddy")
        assert "1000:1000" == container["user"]
        assert (["ALL"], ["NET_BIND_SERVICE"]) == (container["capDrops"], container["capAdds"])

    def test_certificates_are_on_a_volume_that_outlives_the_service(self, run):
        """A new version of Caddy finds the certificates of the old one."""
        container = run(**LOCAL).container("dask_caddy")
        (mount,) = container["mounts"]
        assert ("volume", "dask-caddy-data") == (mount["type"], mount["source"])
        assert {"XDG_DATA_HOME": mount["target"]} == container["env"]

    def test_caddy_is_as_well_formed_as_every_service(self, run):
        """Digest, platform, limits, restart, health check: nothing is left to defaults."""
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
        """The deployment is not proven while Caddy is replaced, or has not got its files."""
        program = run(**LOCAL)
        probe = program.command("dask-health-run")
        asked = json.loads(probe.inputs["stdin"])
        assert ["dask_caddy", "dask_caddy_reloader"] == asked["healthy"]
        assert set(asked["healthy"]) < set(asked["services"])

    def test_a_destroy_ends_caddy_too(self, run):
        """It is on a network of the stack's own, which must be free to be removed."""
        shutdown = run(**LOCAL).command("dask-shutdown-run")
        ended = json.loads(shutdown.inputs["stdin"])["services"]
        assert "dask_caddy" in ended
        # The Swarm refuses to scale a service that is on every node; this one is on no network.
        assert "dask_caddy_reloader" not in ended

    def test_under_localhost_caddy_is_its_own_authority(self, run):
        """No certificate authority can reach such a name."""
        assert "local_certs" in files_of(run(**LOCAL))["certificates.caddy"]

    def test_a_real_domain_gets_its_certificates_by_acme(self, run):
        """Contact and directory are the config's."""
        program = run(**REAL, acmeDirectory="https://ca.example.org/acme/acme/directory")
        text = files_of(program)["certificates.caddy"]
        assert "email admin@example.org\n" in text
        assert "acme_ca https://ca.example.org/acme/acme/directory\n" in text


DELIVERED = AUTHELIA | {"caddyDirectory": "/srv/sites/"}
BASIC = {"auth": "basic"}
# What of the text for an existing Caddy is a secret: a password's hash, the front key.
SECRET_TEXTS = [
    ({}, True),
    ({"auth": "basic"}, True),
    ({"auth": "basic", "notebookLogin": "true"}, True),
    ({"notebookLogin": "true"}, False),
]


class TestDelivery:
    def delivery_of(self, program):
        return program.command("front-delivery")

    def test_puts_the_text_where_caddy_imports_it(self, run):
        """On the manager's own machine unless the manager is reached by SSH."""
        program = run(**DELIVERED, caddyService="edge_caddy")
        inputs = self.delivery_of(program).inputs
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
    def test_goes_by_ssh_where_caddy_is_elsewhere(self, run, config, host):
        """To the manager as Docker is reached, or to a host of its own."""
        delivery = self.delivery_of(run(**DELIVERED, **config))
        assert host == json.loads(delivery.inputs["stdin"])["host"]

    def test_a_changed_text_is_an_update_and_another_place_a_replacement(self, run):
        """The old place is cleaned up, and an update in one place never leaves it empty."""
        before = self.delivery_of(run(**DELIVERED)).inputs
        renamed = self.delivery_of(run(**DELIVERED, notebookName="lab")).inputs
        moved = self.delivery_of(run(**DELIVERED, caddyHost="ssh://a@b")).inputs
        assert before["stdin"] != renamed["stdin"]
        assert before["triggers"] == renamed["triggers"]
        assert before["triggers"] != moved["triggers"]

    @pytest.mark.parametrize(("config", "secret"), SECRET_TEXTS)
    def test_a_key_or_hash_in_it_is_a_secret(self, run, config, secret):
        """A text that holds one is encrypted in the state."""
        assert secret == ("stdin" in self.delivery_of(run(**DELIVERED | config)).secret)

    def test_what_is_delivered_is_proven(self, run):
        """The deployment brought it about, so it answers for it."""
        program = run(**DELIVERED)
        assert program.command("front-proof-run")
        assert "front" in program.outputs["health"]


class TestDocumentation:
    def test_joins_an_existing_caddy_and_authelia_in_five_lines(self, run):
        """The lines that it gives are enough for sites that are delivered and proven."""
        page = (ROOT / "docs" / "ingress.md").read_text(encoding="utf-8")
        section = page.partition("## With the Caddy that you have")[2]
        block = section.partition("```sh\n")[2].partition("```")[0]
        lines = re.findall(r"^pulumi config set (\w+) (\S+)", block, re.MULTILINE)
        assert 5 == len(lines) == len(block.splitlines())
        program = run(**dict(lines))
        assert "https://notebook.example.org" == program.outputs["notebook_url"]
        assert "forward_auth authelia:9091" in program.outputs["caddyfile"]
        assert {"front-delivery", "front-proof-run"} <= {
            each.name for each in program.of_type(COMMAND)
        }


class TestExternal:
    def test_nothing_of_caddy_is_declared(self, run):
        """An existing Caddy keeps its network, its service and its files."""
        program = run(**AUTHELIA)
        assert 3 == len(program.of_type("docker:index/service:Service"))
        assert ["dask-network"] == [each.inputs["name"] for each in program.of_type(NETWORK)]

    def test_the_text_is_an_output_for_those_who_paste(self, run):
        """Both sites and the login, in an order in which Caddy understands them."""
        text = run(**AUTHELIA).outputs["caddyfile"]
        parts = ["(dask_swarm_site)", "(dask_swarm_login)", "notebook.example.org {"]
        assert sorted(parts, key=text.index) == parts
        assert "dashboard.example.org {" in text
        assert "{$" not in text
        assert "admin" not in text


@pytest.mark.parametrize(("mode", "domain"), [("external", ""), ("none", "example.org")])
def test_without_a_front_there_is_none(run, mode, domain):
    """Nothing is rendered, published or generated; the addresses are the Swarm's own."""
    program = run(caddyMode=mode, domain=domain)
    assert "" == program.outputs["caddyfile"]
    assert "http://dask_notebook:8888" == program.outputs["notebook_url"]
    assert ("", "") == (program.outputs["login_user"], program.outputs["login_password"])
    assert 3 == len(program.of_type("docker:index/service:Service"))


@pytest.mark.parametrize("config", [LOCAL, REAL, AUTHELIA], ids=["local", "managed", "external"])
def test_the_addresses_are_the_names(run, config):
    """Who deploys is told where notebook and dashboard are."""
    outputs = run(**config, notebookName="lab").outputs
    assert f"https://lab.{config['domain']}" == outputs["notebook_url"]
    assert f"https://dashboard.{config['domain']}/status" == outputs["dashboard_url"]


class TestAuthelia:
    def test_the_current_endpoint_is_the_default(self, run):
        """Authelia 4.38 and later know their portal by themselves."""
        text = run(**AUTHELIA).outputs["caddyfile"]
        assert "forward_auth authelia:9091 {\n\t\turi /api/authz/forward-auth\n" in text

    def test_the_legacy_endpoint_is_told_the_portal(self, run):
        """Older ones have to be told."""
        text = run(**AUTHELIA, autheliaEndpoint="/api/verify").outputs["caddyfile"]
        assert "uri /api/verify?rd=https://auth.example.org\n" in text

    def test_an_address_may_be_of_https_and_have_a_path(self, run):
        """The check is below the path, the certificate that of the name."""
        config = {"autheliaAddress": "https://example.org/auth", "autheliaEndpoint": "/api/verify"}
        portal = {"autheliaPortal": "https://example.org/auth"}
        text = run(**AUTHELIA | portal, **config).outputs["caddyfile"]
        assert "forward_auth https://example.org {\n" in text
        assert "uri /auth/api/verify?rd=https://example.org/auth\n" in text

    def test_address_and_cookie_are_the_configs(self, run):
        """An Authelia set up otherwise fits too."""
        program = run(**AUTHELIA, autheliaAddress="login:80", autheliaCookie="sso")
        text = program.outputs["caddyfile"]
        assert "forward_auth login:80 {" in text
        assert r'"(^|;)\s*sso=[^;]*"' in text


class TestBasic:
    def hash_of(self, program):
        (line,) = [
            each for each in files_of(program)["login.caddy"].splitlines() if "$2b$" in each
        ]
        user, found = line.split()
        assert "dask" == user
        return found

    def test_a_password_is_generated_and_told_as_a_secret(self, run):
        """Who deploys reads it with --show-secrets."""
        program = run(**LOCAL)
        assert ("dask", "t" * 48) == (
            program.outputs["login_user"],
            program.outputs["login_password"],
        )
        assert {"login_password", "notebook_token"} <= program.secret_outputs
        assert bcrypt.checkpw(b"t" * 48, self.hash_of(program).encode())

    def test_a_password_from_the_config_is_nowhere_in_plain(self, run):
        """Only its hash reaches Caddy."""
        program = run(**LOCAL, basicPassword=PASSWORD)
        encoded = base64.b64encode(PASSWORD.encode()).decode()
        for each in program.resources:
            plain = {key: value for key, value in each.inputs.items() if key not in each.secret}
            assert PASSWORD not in json.dumps(plain)
            assert encoded not in json.dumps(each.inputs)
        assert "login_password" in program.secret_outputs
        assert bcrypt.checkpw(PASSWORD.encode(), self.hash_of(program).encode())

    def test_the_hash_does_not_change_by_itself(self, run):
        """A second deployment leaves Caddy alone."""
        assert files_of(run(**LOCAL)) == files_of(run(**LOCAL))

    @pytest.mark.parametrize(("config", "secret"), SECRET_TEXTS)
    def test_a_text_with_a_key_or_hash_is_a_secret_output(self, run, config, secret):
        """It is shown to those only who ask for it."""
        assert secret == ("caddyfile" in run(**AUTHELIA | config).secret_outputs)

    @pytest.mark.parametrize(("config", "cookie"), [(LOCAL, True), (DELIVERED | BASIC, False)])
    def test_a_cookie_stands_for_the_password_where_caddy_has_a_file(self, run, config, cookie):
        """Its secret is Caddy's alone; an existing Caddy asks for the password each time."""
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
    """The front key, by which the notebook knows whom Caddy has let in."""

    def key_of(self, program, service):
        """Return the id of the secret that a service has as its key, None without one."""
        secrets = program.container(service)["secrets"]
        return next((s["secretId"] for s in secrets if s["fileName"] == "front_key"), None)

    def test_a_managed_caddy_reads_it_from_a_swarm_secret(self, run):
        """Caddy and notebook have the same file, and no text or config holds the key."""
        program = run(**LOCAL)
        assert "front-key-id" == self.key_of(program, "dask_caddy")
        assert "front-key-id" == self.key_of(program, "dask_notebook")
        expected = "header_up Proxy-Authorization {file./run/secrets/front_key}"
        assert expected in files_of(program)["key.caddy"]
        assert KEY not in "".join(files_of(program).values())

    def test_an_existing_caddy_is_handed_the_key_itself(self, run):
        """Its host is not the stack's to put files on; the whole text is a secret."""
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
    def test_where_jupyter_asks_for_its_own_login_caddy_passes_none(self, run, config):
        """A client's own header is removed, and the proof logs in at Jupyter."""
        program = run(**config)
        text = program.outputs["caddyfile"]
        assert "header_up -Proxy-Authorization\n" in text
        assert "header_up Proxy-Authorization" not in text
        assert KEY not in text
        for command in program.of_type(COMMAND):
            if command.name == "front-proof-run":
                assert KEY == json.loads(command.inputs["stdin"])["notebook_token"]

    @pytest.mark.parametrize("config", [{}, AUTHELIA | {"caddyMode": "none"}])
    def test_without_a_front_there_is_none(self, run, config):
        """The notebook's own token opens it, whatever `notebookLogin` says."""
        program = run(**config)
        assert ["notebook_token"] == [
            secret["fileName"] for secret in program.container("dask_notebook")["secrets"]
        ]
        assert KEY == program.outputs["notebook_token"]

    def test_is_in_no_spec_and_no_config(self, run):
        """Whoever inspects services and configs finds neither key nor token."""
        for resource in run(**LOCAL).resources:
            plain = {k: v for k, v in resource.inputs.items() if k not in resource.secret}
            assert KEY not in json.dumps(plain)
            assert base64.b64encode(KEY.encode()).decode() not in json.dumps(plain)


class TestProof:
    def request_of(self, program):
        (proof,) = [each for each in program.of_type(COMMAND) if each.name.startswith("front")]
        assert {"stdin"} <= proof.secret
        return json.loads(proof.inputs["stdin"])

    def test_joins_the_health_output(self, run):
        """Who deploys sees one proof; it is no secret."""
        program = run(**LOCAL)
        assert 4 == program.outputs["health"]["workers"]
        assert program.outputs["health"]["front"]["login_tried"]
        assert "health" not in program.secret_outputs

    def test_tries_the_generated_password_alone(self, run):
        """With a basic login there always are credentials, and they are enough."""
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
    def test_logs_in_at_jupyter_where_that_asks(self, run, config, token, password):
        """Behind the login in front, by what opens the notebook itself."""
        request = self.request_of(run(**LOCAL, notebookLogin="true", **config))
        assert (token, password) == (request["notebook_token"], request["notebook_password"])

    def test_a_password_of_the_notebook_is_not_asked_for_by_default(self, run):
        """It is for those who come without Caddy."""
        request = self.request_of(run(**LOCAL, notebookPassword=PASSWORD))
        assert ("", "") == (request["notebook_token"], request["notebook_password"])

    def test_a_real_domain_is_looked_up_and_its_certificate_verified(self, run):
        """As any visitor would."""
        request = self.request_of(run(**REAL))
        assert ([], True) == (request["addresses"], request["verified"])
        assert ("authelia", "https://auth.example.org") == (request["auth"], request["portal"])
        assert ("", "") == (request["user"], request["password"])

    def test_an_account_of_authelia_is_used_where_there_is_one(self, run):
        """The half of the proof behind the login needs somebody to log in as."""
        program = run(**REAL, autheliaUser="probe", autheliaPassword=PASSWORD)
        request = self.request_of(program)
        assert ("probe", PASSWORD) == (request["user"], request["password"])

    def test_is_left_to_who_pastes_the_text(self, run):
        """What the deployment does not bring about, it cannot prove."""
        program = run(**AUTHELIA)
        names = {each.name for each in program.of_type(COMMAND)}
        assert {"dask-health-run", "dask-shutdown-run"} == names
        assert "front" not in program.outputs["health"]

    @pytest.mark.parametrize(
        "change",
        [{"notebookName": "lab"}, {"basicPassword": PASSWORD}],
        ids=lambda change: next(iter(change)),
    )
    def test_runs_again_when_what_it_depends_on_changes(self, run, change):
        """A changed name or password is proven, an unchanged front is not proven again."""

        def keepers(program):
            (attempt,) = [
                each
                for each in program.of_type("random:index/randomId:RandomId")
                if each.name == "front-proof-attempt"
            ]
            return attempt.inputs["keepers"]

        assert keepers(run(**LOCAL)) == keepers(run(**LOCAL))
        assert keepers(run(**LOCAL)) != keepers(run(**LOCAL, **change))

    def test_comes_after_the_clusters_proof(self, run):
        """Both at once would compete, and the front has nothing to show before."""
        names = [each.name for each in run(**LOCAL).of_type(COMMAND)]
        assert names.index("dask-health-run") < names.index("front-proof-run")
