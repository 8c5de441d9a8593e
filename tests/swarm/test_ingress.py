"""The front deployed for real, before the real JupyterLab and dashboard: what holds in both modes.

What only one mode has follows in its class.
"""

import json
import ssl
import time
from contextlib import closing
from pathlib import Path

import docker
import pytest

from health.ingress import FORGED, MARKS, PAGES, prove
from swarm.progress import Progress
from tests.front.portal import PASSWORD, USER
from tests.swarm.conftest import RUNNERS, wait_until_gone
from tests.swarm.ingress import (
    MANAGED_CADDY,
    START_SECONDS,
    Front,
    Stream,
    basic,
    certificate,
    container_of,
    healthy,
    joining,
    other,
    request_for,
)

# A program that asks for the notebook as any container on its networks can.
STRANGERS = """
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
BACK_SECONDS = 5  # within which a new task is found at its new address


@pytest.fixture
def visitor(front):
    """Return somebody without a login."""
    return front.visitor()


@pytest.fixture
def login(front):
    """Return the headers of somebody who is logged in."""
    return front.login()


class CommonTests:
    """What both modes promise, each on one deployment."""

    def test_the_front_is_proven_with_the_rest(self, front):
        """The result joins the health output; who deploys is told the addresses."""
        outputs = front.deployment.runner.outputs()
        assert 4 == outputs["health"]["workers"]
        for site, host in front.hosts.items():
            proven = {"url": f"https://{host}", "anonymous": front.refusal}
            assert proven.items() <= outputs["health"]["front"][site].items()
        assert "https://notebook.localhost" == outputs["notebook_url"]
        assert "https://dashboard.localhost/status" == outputs["dashboard_url"]

    @pytest.mark.parametrize("headers", [{}, FORGED], ids=["anonymous", "forged"])
    def test_nobody_gets_in_without_a_login(self, front, visitor, headers):
        """The login answers for both names, and nothing of the service comes along."""
        for site, host in front.hosts.items():
            page = visitor.get(host, PAGES[site], headers)
            assert front.refusal == page.status
            assert not MARKS[site].search(page.text)
            assert front.refusal == visitor.upgrade(host, "/eventstream", headers).status

    def test_a_login_opens_pages_and_websockets(self, front):
        """JupyterLab and the dashboard answer, and upgrade."""
        outputs = front.outputs()
        by_portal = {"auth": "authelia", "portal": "https://portal.localhost"}
        by_portal |= {"user": USER, "password": PASSWORD}
        by_caddy = {"user": outputs["login_user"], "password": outputs["login_password"]}
        asked = by_caddy if front.refusal == 401 else by_portal
        found = prove(request_for(front.address, names=front.hosts, **asked), Progress())
        for site in front.hosts:
            assert {"login": 200, "websocket": 101}.items() <= found[site].items()

    def test_the_login_in_front_is_enough(self, front, visitor, login):
        """JupyterLab opens with it, and takes the user's name from it alone."""
        page = visitor.get(front.hosts["notebook"], "/lab", login)
        assert (200, True) == (page.status, bool(MARKS["notebook"].search(page.text)))
        user = visitor.fetch("GET", front.hosts["notebook"], "/api/me", FORGED | login)
        assert front.user == json.loads(user.text)["identity"]["username"]

    def test_no_stranger_on_either_network_gets_in(self, front, lab):
        """Whoever reaches the notebook without Caddy is refused, with a forged key as well."""
        with closing(docker.DockerClient(lab.docker_host)) as engine:
            notebook = container_of(engine, "dask_notebook")
            networks = notebook.attrs["NetworkSettings"]["Networks"].values()
            addresses = [network["IPAddress"] for network in networks]
            asked = STRANGERS.format(addresses=addresses, headers=[{}, FORGED])
            done = container_of(engine, "dask_scheduler").exec_run(["python", "-c", asked])
        assert 2 <= len(addresses)
        assert {"403"} == set(done.output.decode().split())

    def test_a_second_up_changes_nothing(self, front, swarm):
        """The hash, the files and the proof are as they were, and nothing is delivered again."""
        before = versions(front, swarm)
        if front.deployment.runner.name == "pulumi":
            front.deployment.run("preview", "--refresh", "--expect-no-changes")
        front.up()
        assert before == versions(front, swarm)

    def test_a_websocket_survives_a_changed_fragment(self, front, visitor, login):
        """The change is live when `up` is done, and nobody was cut off by it."""
        before = front.hosts["notebook"]
        with closing(Stream(front, login)) as stream:
            assert stream.answers(b"before")
            front.up(notebookName="lab")
            assert 200 == front.visitor().get("lab.localhost", "/api", login).status
            assert stream.answers(b"after")
        with pytest.raises(ssl.SSLError):
            visitor.get(before, "/api", login)

    def test_a_new_task_is_found_at_its_new_address(self, front, visitor, login, lab):
        """A killed notebook is served again within 5 s of its new task being healthy."""
        with closing(docker.DockerClient(lab.docker_host)) as engine:
            old = container_of(engine, "dask_notebook")
            old.kill()
            deadline = time.monotonic() + START_SECONDS
            while not healthy(engine, "dask_notebook", old.id):
                assert time.monotonic() < deadline, "no new task"
                time.sleep(0.1)
        start = time.monotonic()
        while (status := visitor.get(front.hosts["notebook"], "/api", login).status) != 200:
            assert time.monotonic() - start < BACK_SECONDS, status
            time.sleep(0.1)


def versions(front, swarm):
    """Return what changes with each service and with each delivery."""
    found = {each.name: each.version for each in swarm.services.list()}
    if "caddyDirectory" in front.config:
        place = Path(front.config["caddyDirectory"]) / "dask-swarm.caddy"
        found["delivered"] = place.stat().st_mtime_ns
    return found


class TestManaged(CommonTests):
    """The stack's own Caddy."""

    @pytest.fixture(scope="class", params=RUNNERS)
    @classmethod
    def front(cls, request, deployed, swarm, lab):
        """Return a deployment with a Caddy of its own, which is destroyed afterwards."""
        address = lab.master.address
        with deployed(request.param, **MANAGED_CADDY) as made:
            yield Front(
                deployment=made, config=MANAGED_CADDY, address=address, refusal=401, user="dask"
            )
        assert not wait_until_gone(swarm)

    def test_only_caddy_publishes(self, front, swarm):
        """80 and 443 of the master are all that leads in."""
        published = {
            each.name: sorted(
                port["PublishedPort"] for port in each.attrs["Endpoint"].get("Ports", [])
            )
            for each in swarm.services.list()
        }
        assert [80, 443] == published.pop("dask_caddy")
        assert not any(published.values())

    def test_caddy_is_an_ordinary_user_whom_nobody_administers(self, front, lab):
        """Neither root nor with an admin address on any network, its own included."""
        with closing(docker.DockerClient(lab.docker_host)) as engine:
            caddy = container_of(engine, "dask_caddy")
            assert b"1000" == caddy.exec_run(["id", "-u"]).output.strip()
            _, listening = caddy.exec_run(["cat", "/proc/net/tcp", "/proc/net/tcp6"])
        rows = [line.split() for line in listening.decode().splitlines()]
        found = {row[1].rpartition(":") for row in rows if row[3] == "0A"}
        # The engine's own name server listens beside them, on an address of the loopback.
        ports = {int(port, 16) for address, _, port in found if address != "0B00007F"}
        assert {80, 443, 8081} == ports

    def test_no_credential_is_in_a_spec_or_log(self, front, swarm, lab):
        """The password reaches Caddy as a hash, the key as a file; neither is written anywhere."""
        outputs = front.outputs()
        services = swarm.services.list()
        texts = [json.dumps(each.attrs) for each in services]
        texts += [
            b"".join(each.logs(stdout=True, stderr=True)).decode()
            for each in services
            if each.name.startswith("dask_caddy")
        ]
        assert any("handled request" in text for text in texts)
        with closing(docker.DockerClient(lab.docker_host)) as engine:
            key = container_of(engine, "dask_caddy").exec_run(["cat", "/run/secrets/front_key"])
        known = [outputs["login_password"], outputs["notebook_token"], key.output.decode()]
        assert [24, 48, 48] == [len(each) for each in known]
        for credential in known:
            assert not [text for text in texts if credential in text]
        assert "[secret]" == front.deployment.runner.outputs()["login_password"]

    def test_another_password_is_refused(self, front, visitor):
        """The hash that reached Caddy opens for one password only."""
        for site, host in front.hosts.items():
            assert 401 == visitor.get(host, PAGES[site], basic("dask", "another")).status

    @pytest.fixture(scope="class")
    @classmethod
    def replaced(cls, front, lab, images):
        """Replace Caddy, let Jupyter ask as well; return the certificate that was there before."""
        before = certificate(front)
        with closing(docker.DockerClient(lab.docker_host)) as engine:
            old = container_of(engine, "dask_caddy").id
            image = next_version(engine, images["caddyImage"])
            front.up(caddyImage=image, notebookLogin=True)
            assert old != container_of(engine, "dask_caddy").id
        return before

    def test_a_new_version_of_caddy_keeps_the_certificates(self, front, replaced):
        """Its task is replaced, gets the sites at once, and finds the certificates."""
        assert replaced == certificate(front)

    def test_jupyter_may_ask_for_its_own_token_behind_the_login(
        self, front, replaced, visitor, login
    ):
        """Whoever is past the login has to know it too, and a forged key is no help."""
        page = visitor.get(front.hosts["notebook"], "/lab", FORGED | login)
        assert (302, True) == (page.status, page.location.startswith("/login?"))
        token = front.outputs()["notebook_token"]
        assert 200 == visitor.get(front.hosts["notebook"], f"/lab?token={token}", login).status
        stranger = front.visitor()
        assert 401 == stranger.get(front.hosts["notebook"], f"/lab?token={token}", {}).status


def next_version(engine, image):
    """Push an image that differs from `image` as a new version would; return its reference."""
    repository, tag = image.rpartition(":")[0], "2.99.0"
    container = engine.containers.create(image)
    container.commit(repository, tag, changes="LABEL version=next")
    container.remove()
    engine.images.push(repository, tag)
    return f"{repository}:{tag}"


class TestExternal(CommonTests):
    """A Caddy that was there before, with sites of its own, behind a stand-in for Authelia."""

    @pytest.fixture(scope="class", params=RUNNERS)
    @classmethod
    def front(cls, request, edge, deployed, swarm, lab):
        """Return a deployment that joins the existing Caddy and Authelia."""
        address, config = lab.master.address, joining(edge)
        with deployed(request.param, **config) as made:
            yield Front(deployment=made, config=config, address=address, refusal=302, user=USER)
        # Nothing of the stack is left in somebody else's Caddy, whose own site goes on.
        assert [] == list((edge / "sites").iterdir())
        assert "other's content" == other(lab)
        assert not wait_until_gone(swarm)

    def test_the_text_that_holds_the_key_is_a_secret(self, front):
        """The output shows it to those only who ask for secrets."""
        assert "[secret]" == front.deployment.runner.outputs()["caddyfile"]
        assert "header_up Proxy-Authorization " in front.outputs()["caddyfile"]

    def test_what_caddy_refuses_fails_the_deployment_and_changes_nothing(self, front, lab):
        """A name that another site has: Caddy's own message, and all sites go on."""
        served = front.hosts
        assert "other's content" == other(lab)
        front.set(dashboardName="other")
        said = front.deployment.fail("up")
        assert "Caddy refuses the new file and still serves the old configuration" in said
        assert "ambiguous site definition" in said
        assert "other's content" == other(lab)
        for site, host in served.items():
            assert 302 == front.visitor().get(host, PAGES[site], {}).status


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_caddy_behind_ssh_is_handed_its_sites(runner, control_host, edge, deployed, lab, swarm):
    """Its file is on the manager, so the way there is the same; the end takes it away again."""
    server, place = control_host.with_a_shell(), edge / "sites"
    with deployed(runner, server, workers=1, **joining(edge)) as deployment:
        proven = deployment.runner.outputs()["health"]["front"]
        assert "https://notebook.localhost" == proven["notebook"]["url"]
        assert [place / "dask-swarm.caddy"] == list(place.iterdir())
    assert [] == list(place.iterdir())
    assert "other's content" == other(lab)
    assert not wait_until_gone(swarm)
