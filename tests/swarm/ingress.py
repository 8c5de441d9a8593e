"""A deployed ingress of either mode, and clients of it."""

import base64
import json
import shutil
import socket
import ssl
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace

import docker
import websocket
from docker import types

from bench.ingress import ingress_request
from health.ingress import client_of
from lab.portal import PASSWORD, USER
from lab.services import PORTAL_PORT
from tests.conftest import ROOT, wait_for

DOMAIN = "localhost"
MANAGED_CADDY = {
    "caddyMode": "managed",
    "caddyNetwork": "dask-caddy-network",
    "domain": DOMAIN,
    "auth": "basic",
}
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


@dataclass(kw_only=True)
class Ingress:
    """A deployment with an ingress; `refusal` is the status of a page without a login.

    `user` is the name of the logged-in user.
    """

    deployment: object
    config: dict
    address: str
    refusal: int
    user: str

    @property
    def hosts(self):
        """The configured names of both sites."""
        sites = ("notebook", "dashboard")
        return {site: f"{self.config.get(f'{site}Name', site)}.{DOMAIN}" for site in sites}

    def set(self, **config):
        """Change the config for the next action."""
        self.config = self.config | config
        self.deployment.configure(**self.config)

    def up(self, **config):
        """Deploy with some config changed."""
        self.set(**config)
        return self.deployment.run("up")

    def outputs(self):
        """Return the stack's outputs, secrets included."""
        return self.deployment.runner.outputs(secrets=True)

    def client(self):
        """Return an HTTP client of this ingress, on this machine."""
        return client_at(self.address, names=self.hosts)

    def login(self):
        """Return the headers of a logged-in user."""
        if self.config.get("auth") == "basic":
            outputs = self.outputs()
            return basic(outputs["login_user"], outputs["login_password"])
        body = json.dumps({"username": USER, "password": PASSWORD, "keepMeLoggedIn": False})
        answer = self.client().post("portal.localhost", "/api/firstfactor", {}, body)
        return {"Cookie": "; ".join(f"{k}={v}" for k, v in answer.cookies.items())}


def joining(edge):
    """Return the config of a stack that joins the existing Caddy."""
    return {
        "domain": DOMAIN,
        "autheliaPortal": "https://portal.localhost",
        "autheliaAddress": f"authelia:{PORTAL_PORT}",
        "caddyDirectory": str(edge / "sites"),
        "caddyService": "edge_caddy",
        "caddyMainFile": str(edge / "Caddyfile"),
    }


@contextmanager
def existing_caddy(lab, swarm, images):
    """Yield the folder of a Caddy with another site, on the lab's master."""
    folder = lab.master.directory / "edge"  # which every engine of a node sees
    (folder / "sites").mkdir(parents=True)
    (folder / "Caddyfile").write_text(MAIN)
    program = (ROOT / "lab/portal.py").read_text()
    common = {
        "networks": ["caddy-network"],
        "constraints": ["node.labels.role==master"],
        "stop_grace_period": 10**9,
    }
    portal = swarm.services.create(
        images["image"], args=["python", "-c", program, str(PORTAL_PORT)], name="authelia",
        endpoint_spec=types.EndpointSpec(mode="dnsrr"), **common,
    )  # fmt: skip
    ports = {port: (port, "tcp", "host") for port in (80, 443)}
    caddy = swarm.services.create(
        images["caddyImage"], args=["caddy", "run", "--config", f"{folder}/Caddyfile"],
        name="edge_caddy", user="root", mounts=[f"{folder}:{folder}:rw"],
        endpoint_spec=types.EndpointSpec(mode="dnsrr", ports=ports), **common,
    )  # fmt: skip
    try:
        wait_for("other site", lambda: serves_other_site(lab), START_SECONDS)
        yield folder
    finally:
        caddy.remove()
        portal.remove()
        wait_until_ended(lab)
        shutil.rmtree(folder)


def wait_until_ended(lab):
    """Wait until no container of the master is left that could hold a port."""
    with closing(docker.DockerClient(lab.docker_host)) as engine:
        deadline = time.monotonic() + START_SECONDS
        while engine.containers.list() and time.monotonic() < deadline:
            time.sleep(0.2)


def other_site(lab):
    """Return the text of the existing Caddy's other site."""
    return client_at(lab.master.address).get("other.localhost", "/", {}).text


def serves_other_site(lab):
    """Return whether the existing Caddy serves its other site."""
    with suppress(OSError):
        return other_site(lab) == "other's content"
    return False


def request_for(address, **changed):
    """Return the request for the proof of an ingress, without credentials by default."""
    return replace(ingress_request(address), deadline_seconds=10, **changed)


def client_at(address, **changed):
    """Return an HTTP client that sends requests for names under localhost to an address."""
    return client_of(request_for(address, **changed))


def basic(user, password):
    """Return the headers of a basic login."""
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


def connect(address, host):
    """Return a TLS connection to a name at an address."""
    context = ssl._create_unverified_context()
    raw = socket.create_connection((address, 443), timeout=10)
    return context.wrap_socket(raw, server_hostname=host)


def certificate(ingress):
    """Return the certificate of the notebook's name."""
    with connect(ingress.address, ingress.hosts["notebook"]) as wire:
        return wire.getpeercert(binary_form=True)


class Stream:
    """A websocket of the scheduler; the answer to a ping shows that it is open."""

    def __init__(self, ingress, login):
        host = ingress.hosts["dashboard"]
        self.socket = websocket.create_connection(
            f"wss://{host}/eventstream",
            socket=connect(ingress.address, host),
            header=login,
            origin=f"https://{host}",
        )

    def answers(self, payload):
        """Send a ping and return whether the answer arrives."""
        self.socket.ping(payload)
        opcode = None
        while opcode != websocket.ABNF.OPCODE_PONG:
            opcode, frame = self.socket.recv_data_frame(control_frame=True)
        return frame.data == payload

    def close(self):
        """Close the connection."""
        self.socket.close(timeout=1)
