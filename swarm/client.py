"""A client of a manager's Docker engine, with `ssh://` by way of the OpenSSH client.

The `docker` package has a way of its own, which takes paramiko even to start `ssh`, keeps what
that says to itself and knows no options for it. Here `ssh` runs `docker system dial-stdio` on the
manager, as the docker command does, with this project's `ssh_config`; a pair of sockets joins it
to the package's client, which sees no difference from an engine of this machine.
"""

import os
import socket
import subprocess
import tempfile
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import IO

import docker
import docker.utils
from docker.constants import DEFAULT_DOCKER_API_VERSION
from docker.errors import DockerException
from docker.transport.basehttpadapter import BaseHTTPAdapter
from requests import PreparedRequest
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.response import HTTPResponse

from swarm.ssh import Cause, explain

PROJECT = Path(__file__).parent.parent
# Relative, so that it is the same in every checkout: the provider starts in the project's folder.
SSH_OPTIONS = ("-Fswarm/ssh_config",)
CONNECTIONS = 10  # that are kept; more are made while they are needed
LAST_WORDS_SECONDS = 5  # for `ssh` to end once its connection has


class SshError(DockerException):
    """Why the manager cannot be reached by SSH, and what helps."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(f"{cause.text}; try: {cause.cure}")
        self.cause = cause


def is_remote(address: str) -> bool:
    """Tell whether an engine's address is reached by SSH."""
    return address.startswith("ssh://")


def ssh_options(address: str) -> list[str] | None:
    """Return what the Docker provider must tell `ssh` on its way to this address, if it does."""
    return [*SSH_OPTIONS] if is_remote(address) else None


def ssh_command(address: str, *command: str) -> list[str]:
    """Return what runs a command on a host, to be started in the folder `PROJECT`."""
    return ["ssh", *SSH_OPTIONS, "-T", "--", address, *command]


def connect(address: str, *, seconds: int) -> "docker.APIClient":
    """Return a client for exactly this address, each answer of which may take `seconds`.

    Raises `DockerException`: an `SshError` where it is SSH that fails.
    """
    if is_remote(address):
        return _SshClient(address, seconds)
    told = {**os.environ, "DOCKER_HOST": address}
    # Certificates are for an engine that is asked over the network.
    tls = docker.utils.kwargs_from_env(told).get("tls") if address.startswith("tcp://") else None
    client: docker.APIClient = docker.APIClient(address, timeout=seconds, tls=tls or False)
    return client


class _SshClient(docker.APIClient):
    """The package's client, whose connections are made by `_Connection`."""

    def __init__(self, address: str, seconds: int) -> None:
        # As for an engine of this machine, up to where a connection is made.
        super().__init__("unix:///remote", version=DEFAULT_DOCKER_API_VERSION, timeout=seconds)
        self._custom_adapter = _Adapter(address)
        self.mount("http+docker://", self._custom_adapter)
        try:
            self._version = self.version(api_version=False)["ApiVersion"]
        except BaseException:
            self.close()
            raise


class _Adapter(BaseHTTPAdapter):
    def __init__(self, address: str) -> None:
        super().__init__()
        self._pool = _Pool(address)

    def get_connection(self, *_: object, **__: object) -> HTTPConnectionPool:
        # The package's own make one for each address that is asked, and so one `ssh`.
        return self._pool

    def request_url(self, request: PreparedRequest, _: object) -> str:
        return str(request.path_url)

    def close(self) -> None:
        self._pool.close()
        self._pool.end()


class _Pool(HTTPConnectionPool):
    def __init__(self, address: str) -> None:
        super().__init__("localhost", maxsize=CONNECTIONS)
        self._address = address
        self._connections: list[_Connection] = []

    def _new_conn(self) -> "_Connection":
        connection = _Connection(self._address)
        self._connections.append(connection)
        return connection

    def end(self) -> None:
        """End every `ssh` that is still there."""
        for each in self._connections:
            each.end()


class _Connection(HTTPConnection):
    """HTTP over the standard input and output of an `ssh`."""

    def __init__(self, address: str) -> None:
        super().__init__("localhost")
        self._address = address
        self._ssh: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None

    def connect(self) -> None:
        self.end()
        self.sock, theirs = socket.socketpair()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  closed by `end`
        with theirs:
            try:
                self._ssh = subprocess.Popen(
                    ssh_command(self._address, "docker system dial-stdio"),
                    cwd=PROJECT,
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=self._said,
                    start_new_session=True,  # ^C is for this program, which may still have to ask
                )
            except FileNotFoundError:
                cure = "apt-get install openssh-client"
                raise SshError(Cause(text="there is no ssh here", cure=cure)) from None

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3 itself
        try:
            return super().getresponse()
        except TimeoutError:
            raise
        except (OSError, HTTPException):
            if cause := self._cause():
                raise SshError(cause) from None
            raise

    def _cause(self) -> Cause | None:
        """Return why `ssh` has ended, None if it has not or all was well."""
        if self._ssh is None or self._said is None:
            return None
        with suppress(subprocess.TimeoutExpired):
            if self._ssh.wait(LAST_WORDS_SECONDS):
                self._said.seek(0)
                return explain(self._said.read().decode(errors="replace"), self._address)
        return None

    def end(self) -> None:
        """End the `ssh`, whose other end is of no use any more."""
        if self._ssh:
            self._ssh.terminate()
            self._ssh.wait()
        if self._said:
            self._said.close()
        self._ssh = self._said = None
