"""The front delivered to a Caddy that was there before, behind a stand-in for Authelia."""

import json
import shutil
import time
from contextlib import closing

import docker
import pytest
from docker import types

from health.front import Request, prove
from health.progress import Progress
from tests.conftest import ROOT
from tests.front.portal import PASSWORD, USER
from tests.swarm.conftest import RUNNERS
from tests.swarm.test_front import HOSTS, visitor_at

PORTAL_PORT = 9091
START_SECONDS = 60
MAIN = """{
	local_certs
	skip_install_trust
}

import sites/*.caddy

other.localhost {
	respond "other's content"
}

portal.localhost, portal.dask.localhost {
	reverse_proxy authelia:9091
}
"""
# The stand-in of tests/front/portal.py, as a program.
SERVE = f"""
import asyncio
async def serve():
    portal().listen({PORTAL_PORT})
    await asyncio.Event().wait()
asyncio.run(serve())
"""


@pytest.fixture(scope="module")
def edge(lab, swarm, images):
    """Return the folder of an existing Caddy with sites of its own, on the lab's master."""
    folder = lab.directory / "edge"
    (folder / "sites").mkdir(parents=True)
    (folder / "Caddyfile").write_text(MAIN)
    program = (ROOT / "tests/front/portal.py").read_text() + SERVE
    common = {
        "networks": ["caddy-network"],
        "constraints": ["node.labels.role==master"],
        "stop_grace_period": 10**9,
    }
    portal = swarm.services.create(
        images["image"], args=["python", "-c", program], name="authelia",
        endpoint_spec=types.EndpointSpec(mode="dnsrr"), **common,
    )  # fmt: skip
    ports = {port: (port, "tcp", "host") for port in (80, 443)}
    caddy = swarm.services.create(
        images["caddyImage"], args=["caddy", "run", "--config", f"{folder}/Caddyfile"],
        name="edge_caddy", user="root", mounts=[f"{folder}:{folder}:rw"],
        endpoint_spec=types.EndpointSpec(mode="dnsrr", ports=ports), **common,
    )  # fmt: skip
    try:
        wait_for_other(lab)
        yield folder
    finally:
        caddy.remove()
        portal.remove()
        with closing(docker.DockerClient(lab.docker_host)) as engine:
            deadline = time.monotonic() + START_SECONDS
            while engine.containers.list() and time.monotonic() < deadline:
                time.sleep(0.2)
        shutil.rmtree(folder)


def other(lab):
    """Return what the other site of the existing Caddy answers."""
    return visitor_at(lab).get("other.localhost", "/", {}).text


def wait_for_other(lab):
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            if other(lab) == "other's content":
                return
        except OSError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture(scope="module", params=RUNNERS)
def front(request, edge, lab, new_deployment, defaults_for_lab, swarm):
    """Return a deployment that joins the existing Caddy and Authelia."""
    deployment = new_deployment(request.param)
    deployment.configure(**config(defaults_for_lab, edge))
    try:
        deployment.run("up")
        yield deployment
    finally:
        deployment.run("destroy")
    # Nothing of the stack is left in somebody else's Caddy, whose own site goes on.
    assert [] == list((edge / "sites").iterdir())
    assert "other's content" == other(lab)
    assert not [each for each in left(swarm) if each not in {"edge_caddy", "authelia"}]


def left(swarm):
    deadline = time.monotonic() + START_SECONDS
    while len(found := [each.name for each in swarm.services.list()]) > 2:
        if time.monotonic() > deadline:
            break
        time.sleep(0.5)
    return found


def config(defaults, edge, **changed):
    """Return the config that joins the existing Caddy."""
    return defaults | {
        "domain": "localhost",
        "autheliaPortal": "https://portal.localhost",
        "autheliaAddress": f"authelia:{PORTAL_PORT}",
        "caddyDirectory": str(edge / "sites"),
        "caddyService": "edge_caddy",
        "caddyMainFile": str(edge / "Caddyfile"),
    } | changed  # fmt: skip


@pytest.fixture
def login(lab):
    """Return the headers of somebody who has logged in at the portal."""
    body = json.dumps({"username": USER, "password": PASSWORD, "keepMeLoggedIn": False})
    answer = visitor_at(lab).post("portal.localhost", "/api/firstfactor", {}, body)
    return {"Cookie": "; ".join(f"{k}={v}" for k, v in answer.cookies.items())}


def test_the_front_is_proven_and_the_other_site_goes_on(front, lab):
    """Anonymous visitors are sent to the portal; nothing else of that Caddy changed."""
    found = front.runner.outputs()["health"]["front"]
    assert ("authelia", False) == (found["auth"], found["login_tried"])
    for site, host in HOSTS.items():
        assert {"url": f"https://{host}", "anonymous": 302} == found[site]
    assert "other's content" == other(lab)


def test_a_login_at_the_portal_opens_both(front, lab, login):
    """JupyterLab then asks for its own token; the dashboard is there, its websocket opens."""
    visitor = visitor_at(lab)
    token = front.runner.outputs(secrets=True)["notebook_token"]
    page = visitor.get(HOSTS["notebook"], f"/lab?token={token}", login)
    assert (200, True) == (page.status, "jupyter-config-data" in page.text)
    assert visitor.get(HOSTS["notebook"], "/lab", login).location.startswith("/login?")
    assert 200 == visitor.get(HOSTS["dashboard"], "/status", login).status
    assert 101 == visitor.upgrade(HOSTS["dashboard"], "/eventstream", login).status


def test_a_second_up_changes_nothing(front, edge, swarm):
    """Nothing is delivered again."""
    place = edge / "sites" / "dask-swarm.caddy"
    before = place.stat().st_mtime_ns
    if front.runner.name == "pulumi":
        front.run("preview", "--refresh", "--expect-no-changes")
    front.run("up")
    assert before == place.stat().st_mtime_ns


def test_an_account_of_the_portals_lets_the_proof_log_in(front, lab):
    """With credentials the half behind the login is proven as well."""
    request = {
        "deadline_seconds": 10,
        "names": HOSTS,
        "addresses": [lab.master.address],
        "verified": False,
        "auth": "authelia",
        "portal": "https://portal.localhost",
        "user": USER,
        "password": PASSWORD,
        "notebook_token": front.runner.outputs(secrets=True)["notebook_token"],
        "notebook_password": "",
    }
    found = prove(Request.parse(json.dumps(request)), Progress())
    assert found["login_tried"]
    for site in HOSTS:
        assert {"anonymous": 302, "login": 200, "websocket": 101}.items() <= found[site].items()


def test_what_caddy_refuses_fails_the_deployment_and_changes_nothing(
    front, lab, edge, defaults_for_lab
):
    """A name that another site has: Caddy's own message, and the old front goes on."""
    front.configure(**config(defaults_for_lab, edge, notebookName="other"))
    said = front.fail("up")
    assert "Caddy refuses it, and still serves what it did before" in said
    assert "ambiguous site definition" in said
    assert "other's content" == other(lab)
    assert 302 == visitor_at(lab).get(HOSTS["notebook"], "/lab", {}).status
    front.configure(**config(defaults_for_lab, edge))
    front.run("up")
