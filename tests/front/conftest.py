"""The front on this machine's loopback: a real Caddy between a client and stand-ins."""

import asyncio
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from base64 import b64encode
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPSConnection

import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from caddy.caddyfile import CaddyfileValues, bcrypt_hash, fragments, options
from tests.front.portal import PASSWORD, USER, portal
from tests.front.services import KEY, upstream

PORTAL = "https://portal.localhost"
NAMES = {site: f"{site}.localhost" for site in ("notebook", "dashboard", "prefect")}
BASIC = {"Authorization": "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
KEYS = {"authelia": "text", "basic": "text", "basic-cookie": "file"}  # as each mode has it
SESSION = "session-secret"
SALT = "0123456789abcdef" * 2
START_SECONDS = 20


class Stand:
    """A stand-in that listens on a port of the loopback until it is closed."""

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


class Front:
    """A running Caddy with this project's files, and a client that is sent to it."""

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
        """Write the files, with this machine's ports in the place of the Swarm's names."""
        ports = {
            "admin": f"localhost:{self.admin}",
            "http_port": self.http,
            "https_port": self.https,
        }
        options = "\n\t".join(f"{name} {value}" for name, value in ports.items())
        here = {service: f"127.0.0.1 {port}" for service, port in self.ports.items()} | {
            ":8081": f":{free_port()}",
            "admin unix//var/tmp/admin.sock": options,
            "/run/secrets": str(self.folder),
        }
        for name, text in files.items():
            there = text
            for what, instead in here.items():
                there = there.replace(what, instead)
            (self.folder / name).write_text(there)

    def wait(self):
        """Wait until Caddy answers for every name."""
        deadline = time.monotonic() + START_SECONDS
        for name in NAMES.values():
            while True:
                try:
                    self.ask(name)
                    break
                except (OSError, ssl.SSLError):
                    assert self.process.poll() is None, self.logged()
                    assert time.monotonic() < deadline, self.logged()
                    time.sleep(0.05)

    def reload(self, files):
        """Have the running Caddy take changed files."""
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
        """Return status, headers and text of the answer to a request."""
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
        """Return the connection and the status of an attempt to open a websocket."""
        connection = self.connect(name)
        wanted = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Origin": f"https://{name}",
        }
        wire = connection.sock
        lines = [f"{key}: {value}" for key, value in (wanted | (headers or {})).items()]
        request = "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {name}", *lines, "", ""])
        wire.sendall(request.encode())
        return wire, int(wire.recv(4096).split()[1])

    def logged(self):
        return (self.folder / "caddy.log").read_text()

    def close(self):
        self.process.terminate()
        self.process.wait(20)
        self.log.close()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextmanager
def closing_all():
    """Yield a list; what is put on it is closed in reverse order."""
    opened = []
    try:
        yield opened
    finally:
        for each in reversed(opened):
            each.close()


class Scene:
    """A front, the stand-ins around it, and how to be somebody who is logged in.

    `auth` is the variant of the login's fragment, and then the setting that it comes from.

    `key` is the variant of the front key's fragment; the key lies in the file `front_key`, for the
    one that reads it. `notebook` is the port of another notebook than the stand-in.
    """

    def __init__(
        self, opened, program, folder, auth, *, key="file", endpoint="/api/authz/forward-auth",
        path="", page_token="", notebook=None,
    ):  # fmt: skip
        self.opened = opened
        self.upstream = Stand(upstream(page_token))
        self.portal, self.path = Stand(portal(path)), path
        opened += [self.upstream, self.portal]
        self.auth, self.key_file = auth.partition("-")[0], folder / "front_key"
        self.key_file.write_text(KEY)
        (folder / "front_session").write_text(SESSION)
        self.text = CaddyfileValues(
            names=NAMES,
            login=auth,
            certificates="internal",
            key=key,
            authelia_address=f"127.0.0.1:{self.portal.port}",
            authelia_uri=path + endpoint,
            basic_user=USER,
        )
        self.fragments = fragments(self.text, bcrypt_hash(PASSWORD, SALT), KEY)
        self.files = options(self.text) | self.fragments
        ports = {
            "dask_notebook 8888": notebook or self.upstream.port,
            "dask_scheduler 8787": self.upstream.port,
            "dask_prefect 4200": self.upstream.port,
        }
        self.front = Front(program, folder, self.files, ports)
        opened.append(self.front)

    def login(self):
        """Return the headers of somebody who is logged in."""
        if self.auth == "basic":
            return BASIC
        connection = HTTPConnection("127.0.0.1", self.portal.port, timeout=10)
        body = json.dumps({"username": USER, "password": PASSWORD})
        connection.request("POST", f"{self.path}/api/firstfactor", body)
        cookie = connection.getresponse().headers["Set-Cookie"].partition(";")[0]
        connection.close()
        return {"Cookie": cookie}


@pytest.fixture(scope="module", params=KEYS)
def scene(request, real_caddy, tmp_path_factory):
    """Return a front with each kind of login."""
    with closing_all() as opened:
        folder, key = tmp_path_factory.mktemp(request.param), KEYS[request.param]
        yield Scene(opened, real_caddy, folder, request.param, key=key)


@pytest.fixture
def new_scene(real_caddy, tmp_path):
    """Return a function that makes a front for one test alone."""
    with closing_all() as opened:
        yield lambda auth, **more: Scene(opened, real_caddy, tmp_path, auth, **more)
