"""A client of a manager's Docker engine; `ssh://` uses the OpenSSH client.

The `docker` package needs paramiko even to start `ssh`, hides its error messages and passes it no
options. Here `ssh` runs `docker system dial-stdio` on the manager, as the docker command does,
with this project's `ssh_config`. A socket pair connects it to the package's client, as if the
engine were on this machine.
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

from swarm.ssh import SshAddress, SshFailure, explain

PROJECT = Path(__file__).parent.parent
# Relative, so that every checkout has the same: the provider starts in the project's folder.
SSH_OPTIONS = ("-Fswarm/ssh_config",)
CONNECTIONS = 10  # kept open; more are opened while they are needed
SSH_EXIT_SECONDS = 5  # for `ssh` to exit after its connection has ended


class SshError(DockerException):
    """SSH cannot reach the manager."""

    def __init__(self, failure: SshFailure) -> None:
        super().__init__(str(failure))
        self.failure = failure


def is_remote(address: str) -> bool:
    """Return whether an engine is reached by SSH."""
    return address.startswith("ssh://")


def ssh_options(address: str) -> list[str] | None:
    """Return the options of the provider's `ssh` for this address, None for other addresses."""
    return [*SSH_OPTIONS] if is_remote(address) else None


def ssh_command(address: str, *command: str) -> list[str]:
    """Return the command line that runs `command` on a host; start it in the folder `PROJECT`."""
    return ["ssh", *SSH_OPTIONS, "-T", *SshAddress.parse(address).arguments, *command]


def connect(address: str, *, seconds: int) -> "docker.APIClient":
    """Return a client for this address; each answer may take `seconds`.

    Raises `DockerException`, an `SshError` where SSH fails.
    """
    if is_remote(address):
        return _SshClient(address, seconds)
    tls = None
    if address.startswith("tcp://"):  # certificates are for an engine on the network only
        environment = {**os.environ, "DOCKER_HOST": address}
        tls = docker.utils.kwargs_from_env(environment).get("tls")
    client: docker.APIClient = docker.APIClient(address, timeout=seconds, tls=tls or False)
    return client


class _SshClient(docker.APIClient):
    """The package's client over connections of `_Connection`."""

    def __init__(self, address: str, seconds: int) -> None:
        # As for an engine on this machine; the adapter below opens the connections.
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
        # The package's adapters have a pool, and so an `ssh`, for each URL.
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
        """End every `ssh` that still runs."""
        for connection in self._connections:
            connection.end()


class _Connection(HTTPConnection):
    """HTTP over the standard input and output of `ssh`."""

    def __init__(self, address: str) -> None:
        super().__init__("localhost")
        self._address = address
        self._ssh: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None

    def connect(self) -> None:
        self.end()
        self.sock, theirs = socket.socketpair()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  closed by `end`
        with theirs:
            try:
                self._ssh = subprocess.Popen(
                    ssh_command(self._address, "docker system dial-stdio"),
                    cwd=PROJECT,
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=self._stderr,
                    start_new_session=True,  # ^C is for this program, which may still ask
                )
            except FileNotFoundError:
                failure = SshFailure(
                    reason="ssh is not installed on this machine",
                    fix="apt-get install openssh-client",
                )
                raise SshError(failure) from None

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3 itself
        try:
            return super().getresponse()
        except TimeoutError:
            raise
        except (OSError, HTTPException):
            if failure := self._failure():
                raise SshError(failure) from None
            raise

    def _failure(self) -> SshFailure | None:
        """Return why `ssh` failed, None if it still runs or succeeded."""
        if self._ssh is None or self._stderr is None:
            return None
        with suppress(subprocess.TimeoutExpired):
            if self._ssh.wait(SSH_EXIT_SECONDS):
                self._stderr.seek(0)
                return explain(self._stderr.read().decode(errors="replace"), self._address)
        return None

    def end(self) -> None:
        """End `ssh`."""
        if self._ssh:
            self._ssh.terminate()
            self._ssh.wait()
        if self._stderr:
            self._stderr.close()
        self._ssh = self._stderr = None
