"""The ingress deployed with the real JupyterLab and dashboard, in both modes.

Tests of one mode are in its class.
"""

import json
import ssl
from contextlib import closing
from pathlib import Path

import docker
import pytest

from health.ingress import FORGED, MARKS, PAGES, prove
from lab.portal import PASSWORD, USER
from swarm.progress import Progress
from tests.conftest import wait_for
from tests.swarm.conftest import RUNNERS, wait_until_gone
from tests.swarm.containers import container_of, healthy_ids
from tests.swarm.ingress import (
    MANAGED_CADDY,
    Ingress,
    Stream,
    basic,
    certificate,
    joining,
    other_site,
    request_for,
)

# Sends requests to the notebook, as any container on its networks can.
REQUESTS = """
from http.client import HTTPConnection
for address in {addresses}:
    for headers in {headers}:
        connection = HTTPConnection(address, 8888, timeout=10)
        try:
            connection.request("GET", "/api/status", headers=headers)
            print(connection.getresponse().status)
        except OSError as error:
            print(address, error)
"""
BACK_SECONDS = 5  # until Caddy uses the address of a new task


@pytest.fixture
def client(ingress):
    """Return an HTTP client without a login."""
    return ingress.client()


@pytest.fixture
def login(ingress):
    """Return the headers of a logged-in user."""
    return ingress.login()


class CommonTests:
    """Tests of both modes, each on one deployment."""

    def test_the_ingress_is_proven_with_the_rest(self, ingress):
        """The health output has the result, and the stack's outputs have the addresses."""
        outputs = ingress.deployment.runner.outputs()
        assert 4 == outputs["health"]["workers"]
        for site, host in ingress.hosts.items():
            proven = {"url": f"https://{host}", "anonymous": ingress.refusal}
            assert proven.items() <= outputs["health"]["front"][site].items()
        assert "https://notebook.localhost" == outputs["notebook_url"]
        assert "https://dashboard.localhost/status" == outputs["dashboard_url"]

    @pytest.mark.parametrize("headers", [{}, FORGED], ids=["anonymous", "forged"])
    def test_no_request_gets_in_without_a_login(self, ingress, client, headers):
        """Both names answer with the login, without content of the service."""
        for site, host in ingress.hosts.items():
            page = client.get(host, PAGES[site], headers)
            assert ingress.refusal == page.status
            assert not MARKS[site].search(page.text)
            assert ingress.refusal == client.upgrade(host, "/eventstream", headers).status

    def test_a_login_opens_pages_and_websockets(self, ingress):
        """JupyterLab and the dashboard answer, and upgrade."""
        outputs = ingress.outputs()
        by_portal = {"auth": "authelia", "portal": "https://portal.localhost"}
        by_portal |= {"user": USER, "password": PASSWORD}
        by_caddy = {"user": outputs["login_user"], "password": outputs["login_password"]}
        credentials = by_caddy if ingress.refusal == 401 else by_portal
        request = request_for(ingress.address, names=ingress.hosts, **credentials)
        proven = prove(request, Progress())
        for site in ingress.hosts:
            assert {"login": 200, "websocket": 101}.items() <= proven[site].items()

    def test_the_login_of_the_ingress_is_enough(self, ingress, client, login):
        """JupyterLab opens after it, and uses its user name only."""
        page = client.get(ingress.hosts["notebook"], "/lab", login)
        assert (200, True) == (page.status, bool(MARKS["notebook"].search(page.text)))
        user = client.fetch("GET", ingress.hosts["notebook"], "/api/me", FORGED | login)
        assert ingress.user == json.loads(user.text)["identity"]["username"]

    def test_no_request_that_bypasses_caddy_gets_in(self, ingress, lab):
        """The notebook refuses them with a forged key too, or does not even listen."""
        with closing(docker.DockerClient(lab.docker_host)) as engine:
            notebook = container_of(engine, "dask_notebook")
            networks = notebook.attrs["NetworkSettings"]["Networks"]
            addresses = [networks.pop("dask-network")["IPAddress"]]
            addresses += [network["IPAddress"] for network in networks.values()]
            program = REQUESTS.format(addresses=addresses, headers=[{}, FORGED])
            done = container_of(engine, "dask_scheduler").exec_run(["python", "-c", program])
        assert 2 <= len(addresses)
        answers = done.output.decode().splitlines()
        assert 2 == sum(f"{addresses[0]} [Errno 111]" in answer for answer in answers)
        assert {"403"} == set(answers[2:])

    def test_a_second_up_changes_nothing(self, ingress, swarm):
        """Services and files are unchanged, and the sites are not installed again."""
        before = versions(ingress, swarm)
        if ingress.deployment.runner.name == "pulumi":
            ingress.deployment.run("preview", "--refresh", "--expect-no-changes")
        ingress.up()
        assert before == versions(ingress, swarm)

    def test_a_websocket_survives_a_changed_fragment(self, ingress, client, login):
        """The change is live when `up` is done, and disconnects no client."""
        before = ingress.hosts["notebook"]
        with closing(Stream(ingress, login)) as stream:
            assert stream.answers(b"before")
            ingress.up(notebookName="lab")
            assert 200 == ingress.client().get("lab.localhost", "/api", login).status
            assert stream.answers(b"after")
        with pytest.raises(ssl.SSLError):
            client.get(before, "/api", login)

    def test_a_new_task_is_served_at_its_new_address(self, ingress, client, login, lab):
        """After a kill the notebook is served within 5 s after its new task is healthy."""
        with closing(docker.DockerClient(lab.docker_host)) as engine:
            old = container_of(engine, "dask_notebook")
            old.kill()
            wait_for("new task", lambda: healthy_ids(engine, "dask_notebook") - {old.id})
        host = ingress.hosts["notebook"]
        wait_for("page", lambda: client.get(host, "/api", login).status == 200, BACK_SECONDS)


def versions(ingress, swarm):
    """Return the versions of all services and of the installed sites."""
    versions = {service.name: service.version for service in swarm.services.list()}
    if "caddyDirectory" in ingress.config:
        sites = Path(ingress.config["caddyDirectory"]) / "dask-swarm.caddy"
        versions["sites"] = sites.stat().st_mtime_ns
    return versions


class TestManaged(CommonTests):
    """The stack's own Caddy."""

    @pytest.fixture(scope="class", params=RUNNERS)
    @classmethod
    def ingress(cls, request, deployed, swarm, lab):
        """Return a deployment with a managed Caddy, which is destroyed afterwards."""
        address = lab.master.address
        with deployed(request.param, **MANAGED_CADDY) as made:
            yield Ingress(
                deployment=made, config=MANAGED_CADDY, address=address, refusal=401, user="dask"
            )
        assert not wait_until_gone(swarm)

    def test_only_caddy_publishes(self, ingress, swarm):
        """Only ports 80 and 443 of the master are published."""
        published = {
            service.name: sorted(
                port["PublishedPort"] for port in service.attrs["Endpoint"].get("Ports", [])
            )
            for service in swarm.services.list()
        }
        assert [80, 443] == published.pop("dask_caddy")
        assert not any(published.values())

    def test_caddy_is_an_ordinary_user_without_an_admin_address(self, ingress, lab):
        """Caddy does not run as root, and its admin address is on no network."""
        with closing(docker.DockerClient(lab.docker_host)) as engine:
            caddy = container_of(engine, "dask_caddy")
            assert b"1000" == caddy.exec_run(["id", "-u"]).output.strip()
            _, listening = caddy.exec_run(["cat", "/proc/net/tcp", "/proc/net/tcp6"])
        rows = [line.split() for line in listening.decode().splitlines()]
        listeners = {row[1].rpartition(":") for row in rows if row[3] == "0A"}
        # The engine's name server listens too, on a loopback address.
        ports = {int(port, 16) for address, _, port in listeners if address != "0B00007F"}
        assert {80, 443, 8081} == ports

    def test_no_credential_is_in_a_spec_or_log(self, ingress, swarm, lab):
        """Caddy gets the password as a hash and the key as a file, and logs neither."""
        outputs = ingress.outputs()
        services = swarm.services.list()
        texts = [json.dumps(service.attrs) for service in services]
        texts += [
            b"".join(service.logs(stdout=True, stderr=True)).decode()
            for service in services
            if service.name.startswith("dask_caddy")
        ]
        assert any("handled request" in text for text in texts)
        with closing(docker.DockerClient(lab.docker_host)) as engine:
            key = container_of(engine, "dask_caddy").exec_run(["cat", "/run/secrets/front_key"])
        credentials = [outputs["login_password"], outputs["notebook_token"], key.output.decode()]
        assert [24, 48, 48] == [len(credential) for credential in credentials]
        for credential in credentials:
            assert not [text for text in texts if credential in text]
        assert "[secret]" == ingress.deployment.runner.outputs()["login_password"]

    def test_another_password_is_refused(self, ingress, client):
        """Caddy accepts one password only."""
        for site, host in ingress.hosts.items():
            assert 401 == client.get(host, PAGES[site], basic("dask", "another")).status

    @pytest.fixture(scope="class")
    @classmethod
    def replaced(cls, ingress, lab, images):
        """Replace Caddy and enable Jupyter's login; return the old certificate."""
        before = certificate(ingress)
        with closing(docker.DockerClient(lab.docker_host)) as engine:
            old = container_of(engine, "dask_caddy").id
            image = next_version(engine, images["caddyImage"])
            ingress.up(caddyImage=image, notebookLogin=True)
            assert old != container_of(engine, "dask_caddy").id
        return before

    def test_a_new_version_of_caddy_keeps_the_certificates(self, ingress, replaced):
        """Its new task gets the sites at once, and has the old certificates."""
        assert replaced == certificate(ingress)

    def test_jupyters_own_token_may_be_needed_behind_the_login(
        self, ingress, replaced, client, login
    ):
        """After the login Jupyter asks for its token, despite a forged key."""
        page = client.get(ingress.hosts["notebook"], "/lab", FORGED | login)
        assert (302, True) == (page.status, page.location.startswith("/login?"))
        token = ingress.outputs()["notebook_token"]
        assert 200 == client.get(ingress.hosts["notebook"], f"/lab?token={token}", login).status
        anonymous = ingress.client()
        assert 401 == anonymous.get(ingress.hosts["notebook"], f"/lab?token={token}", {}).status


def next_version(engine, image):
    """Push an image that differs from `image` like a new version; return its reference."""
    repository, tag = image.rpartition(":")[0], "2.99.0"
    container = engine.containers.create(image)
    container.commit(repository, tag, changes="LABEL version=next")
    container.remove()
    engine.images.push(repository, tag)
    return f"{repository}:{tag}"


class TestExternal(CommonTests):
    """An existing Caddy with another site, and a stub of Authelia."""

    @pytest.fixture(scope="class", params=RUNNERS)
    @classmethod
    def ingress(cls, request, edge, deployed, swarm, lab):
        """Return a deployment that joins the existing Caddy and Authelia."""
        address, config = lab.master.address, joining(edge)
        with deployed(request.param, **config) as made:
            yield Ingress(deployment=made, config=config, address=address, refusal=302, user=USER)
        # The existing Caddy has no site of the stack left, and still serves its other site.
        assert [] == list((edge / "sites").iterdir())
        assert "other's content" == other_site(lab)
        assert not wait_until_gone(swarm)

    def test_the_text_with_the_key_is_a_secret(self, ingress):
        """The output shows it with `--show-secrets` only."""
        assert "[secret]" == ingress.deployment.runner.outputs()["caddyfile"]
        assert "header_up Proxy-Authorization " in ingress.outputs()["caddyfile"]

    def test_what_caddy_refuses_fails_the_deployment_and_changes_nothing(self, ingress, lab):
        """A name of another site gives Caddy's own message, and all sites stay."""
        hosts = ingress.hosts
        assert "other's content" == other_site(lab)
        ingress.set(dashboardName="other")
        output = ingress.deployment.fail("up")
        assert "Caddy refuses the new file and still serves the old configuration" in output
        assert "ambiguous site definition" in output
        assert "other's content" == other_site(lab)
        for site, host in hosts.items():
            assert 302 == ingress.client().get(host, PAGES[site], {}).status


@pytest.mark.parametrize("runner", RUNNERS)
def test_sites_are_installed_behind_ssh(runner, control_host, edge, deployed, lab, swarm):
    """The sites are written on the manager by SSH, and a destroy removes them."""
    server, sites = control_host.with_a_shell(), edge / "sites"
    with deployed(runner, server, workers=1, **joining(edge)) as deployment:
        proven = deployment.runner.outputs()["health"]["front"]
        assert "https://notebook.localhost" == proven["notebook"]["url"]
        assert [sites / "dask-swarm.caddy"] == list(sites.iterdir())
    assert [] == list(sites.iterdir())
    assert "other's content" == other_site(lab)
    assert not wait_until_gone(swarm)
