"""An OpenSSH server on the lab's manager, and a control host of it: all in one folder."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lab.debian import ensure_packages
from lab.layout import Node
from lab.shell import LabError, run, wait_for

USER = "me@corp"  # a domain's account
ALIAS = "swarm_manager"  # in the user's ssh config
PORT = 2222  # where a user can run docker only
SHELL_PORT = 2223  # where a user has a shell, which is needed to install files
START_SECONDS = 20
# The manager has an engine, the docker command, and a shell to start it.
DOCKER_ONLY = """#!/bin/sh
echo "$SSH_ORIGINAL_COMMAND" >>{folder}/commands
export PATH={folder}/bin
exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"
"""
SETTINGS = """
Port {port}
Port {shell_port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
AuthenticationMethods publickey
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
Subsystem sftp internal-sftp
Match LocalPort {port}
  ForceCommand {folder}/docker-only
"""
SSH_CONFIG = """
IdentityFile {folder}/user_key
Host {alias} fd00::77
  HostName {host}
  Port {port}
"""
# The server has a /run of its own, with the engine's socket in its usual place.
START = """
mount -t tmpfs tmpfs /run
ln -s "$1/docker.sock" /run/docker.sock
mkdir /run/sshd
mount --bind "$2/passwd" /etc/passwd
exec /usr/sbin/sshd -D -f "$2/sshd_config" -E "$2/log"
"""
# OpenSSH finds most of a user's files by /etc/passwd alone.
CONTROL_HOST = """#!/bin/sh
export PULUMI_HOME="${{PULUMI_HOME:-$HOME/.pulumi}}" HOME={folder}/home
exec unshare --mount sh -c 'mount --bind "$0" /etc/passwd && exec "$@"' {folder}/passwd "$@"
"""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server; `home` is the home of the user of `command`."""

    host: str
    folder: Path
    port: int = PORT

    @property
    def address(self) -> str:
        """The address of the manager for a Docker client on the control host."""
        return f"ssh://root@{self.host}:{self.port}"

    def with_a_shell(self) -> "Server":
        """Return the same server with the port where a user has a shell."""
        return replace(self, port=SHELL_PORT)

    @property
    def home(self) -> Path:
        """The home directory of the control host's user."""
        return self.folder / "home"

    @property
    def known_hosts(self) -> Path:
        """The user's file of known hosts."""
        return self.home / ".ssh" / "known_hosts"

    def command(self, *words: str) -> list[str]:
        """Return the command line that runs a command on the control host."""
        return [str(self.folder / "control-host"), *words]

    def trust(self, key: str = "host_key") -> None:
        """Write the known hosts file with the server's key, another key, or no key."""
        ports = ",".join(f"[{self.host}]:{port}" for port in (PORT, SHELL_PORT))
        public = (self.folder / f"{key}.pub").read_text() if key else ""
        self.known_hosts.write_text(f"{ports} {public}" if key else "")

    def logins(self) -> int:
        """Return the number of accepted connections so far."""
        return (self.folder / "log").read_text().count("Accepted publickey")

    def commands(self) -> set[str]:
        """Return the commands that were run on the manager."""
        return set((self.folder / "commands").read_text().splitlines())

    def forget_commands(self) -> None:
        """Begin the list of commands again."""
        (self.folder / "commands").write_text("")

    def hang_up(self) -> None:
        """Close the connection that ssh keeps for the next command."""
        call = self.command("ssh", "-F", "swarm/ssh_config", "-O", "exit", self.address)
        environment = os.environ | {"DASK_SWARM_FIRST": "1"}
        subprocess.run(call, env=environment, capture_output=True, timeout=20, check=False)


@contextmanager
def running(node: Node, folder: Path) -> Iterator[Server]:
    """Run a server on a node of the lab, with all its files in `folder`."""
    ensure_packages(["sshd"])
    server = Server(host=node.address, folder=folder)
    _prepare(server)
    # The server ends with this program, however it ends.
    bound = [*node.inside, "unshare", "--mount", "setpriv", "--pdeathsig", "TERM"]
    start = ["sh", "-c", START, "sh", str(node.directory), str(folder)]
    process = subprocess.Popen([*bound, *start])
    try:
        wait_for("start of sshd", lambda: _listens(server, process), seconds=START_SECONDS)
        yield server
    finally:
        for endpoint in (server, server.with_a_shell()):
            endpoint.hang_up()
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)


def _prepare(server: Server) -> None:
    folder = server.folder
    for key in ("host_key", "user_key", "other_key"):
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)])
    (server.home / ".ssh").mkdir(parents=True, mode=0o700)
    config = SSH_CONFIG.format(folder=folder, alias=ALIAS, host=server.host, port=PORT)
    (server.home / ".ssh" / "config").write_text(config)
    (folder / "bin").mkdir()
    (folder / "bin" / "docker").symlink_to(shutil.which("docker") or "/usr/bin/docker")
    (folder / "commands").touch()
    settings = SETTINGS.format(port=PORT, shell_port=SHELL_PORT, folder=folder)
    (folder / "sshd_config").write_text(settings)
    _write_passwd(folder, server.home)
    for name, text in (("docker-only", DOCKER_ONLY), ("control-host", CONTROL_HOST)):
        (folder / name).write_text(text.format(folder=folder))
        (folder / name).chmod(0o755)
    server.trust()


def _write_passwd(folder: Path, home: Path) -> None:
    lines = [line.split(":") for line in Path("/etc/passwd").read_text().splitlines()]
    for fields in lines:
        if fields[0] == "root":
            fields[5] = str(home)
            account = [USER, *fields[1:]]
    lines.append(account)
    (folder / "passwd").write_text("".join(":".join(fields) + "\n" for fields in lines))


def _listens(server: Server, process: "subprocess.Popen[bytes]") -> bool:
    log = server.folder / "log"
    text = log.read_text() if log.exists() else ""
    if process.poll() is not None:
        raise LabError(f"sshd ended: {text}")
    return "listening on" in text
