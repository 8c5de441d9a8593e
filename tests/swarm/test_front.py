"""The stack's own Caddy deployed for real, in front of the real JupyterLab and dashboard."""

import base64
import json
import socket
import ssl
import time
from contextlib import closing

import docker
import pytest

from health.front import Request, Visitor
from tests.swarm.conftest import RUNNERS, wait_until_gone

HOSTS = {"notebook": "notebook.localhost", "dashboard": "dashboard.localhost"}
BACK_SECONDS = 5  # within which a new task is found at its new address
START_SECONDS = 60
MANAGED = {
    "caddyMode": "managed",
    "caddyNetwork": "dask-caddy-network",
    "domain": "localhost",
    "auth": "basic",
}


@pytest.fixture(scope="module", params=RUNNERS)
def front(request, new_deployment, defaults_for_lab, swarm):
    """Return a deployment with a Caddy of its own, which is destroyed afterwards."""
    assert not wait_until_gone(swarm)
    deployment = new_deployment(request.param)
    deployment.configure(**defaults_for_lab, **MANAGED)
    try:
        deployment.run("up")
        yield deployment
    finally:
        deployment.run("destroy")
    assert not wait_until_gone(swarm)


@pytest.fixture
def visitor(lab):
    """Return somebody who asks the lab's master, from this machine."""
    return visitor_at(lab)


def visitor_at(lab):
    request = {
        "deadline_seconds": 10,
        "names": HOSTS,
        "addresses": [lab.master.address],
        "verified": False,
        "auth": "basic",
        **dict.fromkeys(("portal", "user", "password", "notebook_token", "notebook_password"), ""),
    }
    return Visitor(Request.parse(json.dumps(request)))


@pytest.fixture
def login(front):
    """Return the headers of somebody who is logged in."""
    outputs = front.runner.outputs(secrets=True)
    return basic(outputs["login_user"], outputs["login_password"])


def basic(user, password):
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


def container_of(engine, service):
    """Return the running container of a service on an engine."""
    wanted = {"label": f"com.docker.swarm.service.name={service}"}
    (container,) = engine.containers.list(filters=wanted)
    return container


def certificate(lab):
    """Return the certificate that the notebook's name is served with."""
    context = ssl._create_unverified_context()
    with (
        socket.create_connection((lab.master.address, 443), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname=HOSTS["notebook"]) as wire,
    ):
        return wire.getpeercert(binary_form=True)


def test_the_front_is_proven_with_the_rest(front):
    """Anonymous is refused, the generated password opens both, websockets included."""
    found = front.runner.outputs()["health"]
    assert 4 == found["workers"]
    for site, host in HOSTS.items():
        proven = {"url": f"https://{host}", "anonymous": 401, "login": 200, "websocket": 101}
        assert proven == found["front"][site]
    assert found["front"]["login_tried"]


def test_the_outputs_are_the_names(front):
    """Who deploys is told the addresses, and the password when asked for."""
    outputs = front.runner.outputs()
    assert "https://notebook.localhost" == outputs["notebook_url"]
    assert "https://dashboard.localhost/status" == outputs["dashboard_url"]
    assert "[secret]" == outputs["login_password"]


def test_only_caddy_publishes(front, swarm):
    """80 and 443 of the master are all that leads in."""
    published = {
        each.name: sorted(
            port["PublishedPort"] for port in each.attrs["Endpoint"].get("Ports", [])
        )
        for each in swarm.services.list()
    }
    assert [80, 443] == published.pop("dask_caddy")
    assert not any(published.values())


def test_caddy_is_an_ordinary_user(front, lab):
    """Neither root nor with a root's files, and its admin address is no port."""
    with closing(docker.DockerClient(lab.docker_host)) as engine:
        caddy = container_of(engine, "dask_caddy")
        assert b"1000" == caddy.exec_run(["id", "-u"]).output.strip()
        _, listening = caddy.exec_run(["cat", "/proc/net/tcp", "/proc/net/tcp6"])
    rows = [line.split() for line in listening.decode().splitlines()]
    ports = {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A"}
    assert not ports & {2019}


def test_no_credential_is_in_a_spec_or_log(front, swarm, lab):
    """The password reaches Caddy as a hash, the token passes by it unwritten."""
    outputs = front.runner.outputs(secrets=True)
    texts = [json.dumps(each.attrs) for each in swarm.services.list()]
    (caddy,) = swarm.services.list(filters={"name": "dask_caddy"})
    texts.append(b"".join(caddy.logs(stdout=True, stderr=True)).decode())
    assert any("handled request" in text for text in texts)
    for key in ("login_password", "notebook_token"):
        assert not [text for text in texts if outputs[key] in text]


def test_a_second_up_changes_nothing(front, swarm):
    """The hash, the files and the proof are as they were."""
    before = {each.name: each.version for each in swarm.services.list()}
    if front.runner.name == "pulumi":
        front.run("preview", "--expect-no-changes")
        front.run("preview", "--refresh", "--expect-no-changes")
    front.run("up")
    assert before == {each.name: each.version for each in swarm.services.list()}


def test_a_new_task_is_found_at_its_new_address(front, visitor, login, swarm, lab):
    """A killed notebook is served again within 5 s of its new task being healthy."""
    with closing(docker.DockerClient(lab.docker_host)) as engine:
        old = container_of(engine, "dask_notebook")
        old.kill()
        deadline = time.monotonic() + START_SECONDS
        while not healthy(engine, "dask_notebook", old.id):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    start = time.monotonic()
    while (status := visitor.get(HOSTS["notebook"], "/api", login).status) != 200:
        assert time.monotonic() - start < BACK_SECONDS, status
        time.sleep(0.1)


def healthy(engine, service, but):
    wanted = {"label": f"com.docker.swarm.service.name={service}", "health": "healthy"}
    return [each for each in engine.containers.list(filters=wanted) if each.id != but]


def test_a_new_caddy_keeps_the_certificates(front, defaults_for_lab, visitor, login, lab):
    """A change that replaces Caddy's task finds its certificates on the volume."""
    before = certificate(lab)
    with closing(docker.DockerClient(lab.docker_host)) as engine:
        old = container_of(engine, "dask_caddy").id
        front.configure(**defaults_for_lab, **MANAGED, dashboardName="dask")
        front.run("up")
        assert old != container_of(engine, "dask_caddy").id
    assert before == certificate(lab)
    assert (
        "https://dask.localhost" == front.runner.outputs()["health"]["front"]["dashboard"]["url"]
    )
    front.configure(**defaults_for_lab, **MANAGED)
    front.run("up")


def test_a_websocket_of_the_scheduler_needs_the_login(front, visitor, login):
    """Whoever listens to the scheduler's events has logged in."""
    host = HOSTS["dashboard"]
    assert 401 == visitor.upgrade(host, "/eventstream", {}).status
    assert 101 == visitor.upgrade(host, "/eventstream", login).status


def test_a_wrong_password_after_the_fact_is_refused(front, visitor):
    """The hash that reached Caddy opens for one password only."""
    for site, page in (("notebook", "/lab"), ("dashboard", "/status")):
        assert 401 == visitor.get(HOSTS[site], page, basic("dask", "not the password")).status
