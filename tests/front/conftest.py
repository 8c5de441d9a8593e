"""The ingress on the loopback: a real Caddy between a client and stub services."""

import asyncio
import json
import os
import socket
import ssl
import subprocess
import threading
from base64 import b64encode
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPSConnection

import bcrypt
import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from caddy.caddyfile import CaddyfileValues, fragments, options
from health.http_client import UPGRADE
from lab.portal import PASSWORD, USER, portal
from tests.conftest import free_port, wait_for
from tests.front.services import KEY, PREFECT_KEY, upstream

PORTAL = "https://portal.localhost"
NAMES = {site: f"{site}.localhost" for site in ("notebook", "dashboard", "prefect")}
BASIC = {"Authorization": "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
KEYS = {"authelia": "text", "basic": "text", "basic-cookie": "file"}  # of each mode
SESSION = "session-secret"
START_SECONDS = 20


def quick_hash(password):
    """Return a password's hash with the smallest cost: Caddy computes it for every request."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


class StubServer:
    """An application that listens on a port of the loopback until it is closed."""

    def __init__(self, application, port=0):
        self.application = application
        self.sockets = bind_sockets(port, "127.0.0.1")
        self.port = self.sockets[0].getsockname()[1]
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self):
        asyncio.set_event_loop(self.loop)
        self.server = HTTPServer(self.application)
        self.loop.call_soon(self.server.add_sockets, self.sockets)
        self.loop.run_forever()

    def close(self):
        async def end():
            self.server.stop()
            await self.server.close_all_connections()

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


class CaddyServer:
    """A running Caddy with this project's files, and a client of it."""

    def __init__(self, program, folder, files, ports):
        self.program, self.folder, self.ports = program, folder, ports
        self.http, self.https, self.admin = (free_port() for _ in range(3))
        self.write(files)
        self.log = (folder / "caddy.log").open("w")
        home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder / "data")}
        command = [program, "run", "--config", "Caddyfile"]
        self.process = subprocess.Popen(
            command, cwd=folder, env=os.environ | home, stderr=self.log, stdout=self.log
        )
        self.wait()

    def write(self, files):
        """Write the files, with ports of this machine instead of the Swarm's names."""
        ports = {
            "admin": f"localhost:{self.admin}",
            "http_port": self.http,
            "https_port": self.https,
        }
        options = "\n\t".join(f"{name} {value}" for name, value in ports.items())
        local = {service: f"127.0.0.1 {port}" for service, port in self.ports.items()} | {
            ":8081": f":{free_port()}",
            "admin unix//var/tmp/admin.sock": options,
            "/run/secrets": str(self.folder),
        }
        for name, text in files.items():
            for original, replacement in local.items():
                text = text.replace(original, replacement)  # noqa: PLW2901
            (self.folder / name).write_text(text)

    def wait(self):
        """Wait until Caddy answers for every name."""
        for name in NAMES.values():
            wait_for(f"answer from {name}", lambda name=name: self.answers(name), START_SECONDS)

    def answers(self, name):
        """Return whether Caddy answers for a name."""
        assert self.process.poll() is None, self.read_log()
        with suppress(OSError):
            return self.ask(name)
        return None

    def reload(self, files):
        """Reload the running Caddy with changed files."""
        self.write(files)
        address = f"localhost:{self.admin}"
        subprocess.run(
            [self.program, "reload", "--config", "Caddyfile", "--address", address],
            cwd=self.folder, check=True, capture_output=True,
        )  # fmt: skip

    def connect(self, name):
        """Return a TLS connection to Caddy under a name."""
        context = ssl._create_unverified_context()
        connection = HTTPSConnection(name, self.https, context=context, timeout=15)
        raw = socket.create_connection(("127.0.0.1", self.https), timeout=15)
        connection.sock = context.wrap_socket(raw, server_hostname=name)
        return connection

    def ask(self, name, path="/page", headers=None, method="GET"):
        """Send a request and return the answer's status, headers and text."""
        connection = self.connect(name)
        try:
            connection.putrequest(method, path, skip_host=True)
            usual = {"Host": name, "Accept": "text/html"}  # no port: a stack's Caddy is on 443
            for key, value in (usual | (headers or {})).items():
                connection.putheader(key, value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()
        finally:
            connection.close()

    def upgrade(self, name, headers=None, path="/stream"):
        """Try to open a websocket; return the connection and the answer's status."""
        connection = self.connect(name)
        wire = connection.sock
        upgrade = UPGRADE | {"Origin": f"https://{name}"} | (headers or {})
        lines = [f"{key}: {value}" for key, value in upgrade.items()]
        request = "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {name}", *lines, "", ""])
        wire.sendall(request.encode())
        return wire, int(wire.recv(4096).split()[1])

    def read_log(self):
        return (self.folder / "caddy.log").read_text()

    def close(self):
        self.process.terminate()
        self.process.wait(20)
        self.log.close()


@contextmanager
def closing_all():
    """Yield a list, and close its items in reverse order."""
    opened = []
    try:
        yield opened
    finally:
        for item in reversed(opened):
            item.close()


class Ingress:
    """A Caddy, the stub services around it, and the headers of a logged-in user.

    The argument `auth` is the variant of the login's fragment, the attribute is the setting.

    `key` is the variant of the notebook's key; the file `front_key` holds it.
    `notebook` is the port of a notebook that replaces the stub.
    """

    def __init__(
        self, opened, program, folder, auth, *, key="file", endpoint="/api/authz/forward-auth",
        path="", page_token="", notebook=None,
    ):  # fmt: skip
        self.opened = opened
        self.upstream = StubServer(upstream(page_token))
        self.portal, self.path = StubServer(portal(path)), path
        opened += [self.upstream, self.portal]
        self.auth, self.key_file = auth.partition("-")[0], folder / "front_key"
        self.key_file.write_text(KEY)
        (folder / "prefect_key").write_text(PREFECT_KEY)
        (folder / "front_session").write_text(SESSION)
        self.text = CaddyfileValues(
            cluster="dask",
            names=NAMES,
            login=auth,
            certificates="internal",
            keys={"notebook": key, "prefect": "text" if key == "text" else "file"},
            authelia_address=f"127.0.0.1:{self.portal.port}",
            authelia_uri=path + endpoint,
            basic_user=USER,
        )
        self.fragments = fragments(
            self.text, quick_hash(PASSWORD), {"notebook": KEY, "prefect": PREFECT_KEY}
        )
        self.files = options(self.text) | self.fragments
        ports = {
            "dask_notebook 8888": notebook or self.upstream.port,
            "dask_scheduler 8787": self.upstream.port,
            "dask_prefect 4200": self.upstream.port,
        }
        self.caddy = CaddyServer(program, folder, self.files, ports)
        opened.append(self.caddy)

    def login(self):
        """Return the headers of a logged-in user."""
        if self.auth == "basic":
            return BASIC
        connection = HTTPConnection("127.0.0.1", self.portal.port, timeout=10)
        body = json.dumps({"username": USER, "password": PASSWORD})
        connection.request("POST", f"{self.path}/api/firstfactor", body)
        cookie = connection.getresponse().headers["Set-Cookie"].partition(";")[0]
        connection.close()
        return {"Cookie": cookie}


@pytest.fixture(scope="module", params=KEYS)
def ingress(request, real_caddy, tmp_path_factory):
    """Return an ingress with each kind of login."""
    with closing_all() as opened:
        folder, key = tmp_path_factory.mktemp(request.param), KEYS[request.param]
        yield Ingress(opened, real_caddy, folder, request.param, key=key)


@pytest.fixture
def new_ingress(real_caddy, tmp_path):
    """Return a function that makes an ingress for one test."""
    with closing_all() as opened:
        yield lambda auth, **more: Ingress(opened, real_caddy, tmp_path, auth, **more)
