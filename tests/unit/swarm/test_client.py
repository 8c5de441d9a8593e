"""The client of a manager behind SSH: ssh's options, and its error messages."""

import os
import socket
import subprocess

import docker
import pytest
from docker.errors import TLSParameterError

from config import types
from swarm import client
from swarm.ssh import SshAddress, explain
from tests.conftest import ROOT, free_port

ADDRESS = "ssh://deploy@manager.example.org:2222"
# Replaces ssh, and answers like the engine behind it.
ENGINE = r"""#!/bin/sh
echo "$@" >>"$0.seen"
echo $$ >"$0.pid"
while IFS= read -r line; do
  case $line in
  GET*version*) body='{"ApiVersion": "1.41"}' ;;
  GET*nodes*) body='[{"ID": "node"}]' ;;
  ?) printf 'HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n%s' ${#body} "$body" ;;
  esac
done
"""
# What OpenSSH 9.2 prints: 10.1.2.3 and 2222 are from the user's config, `jump` is a jump host.
BY_JUMP = "Connection closed by UNKNOWN port 65535\r\n"
CHANGED = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r
Add correct host key in /home/me/.ssh/known_hosts to get rid of this message.\r
Offending ED25519 key in /home/me/.ssh/known_hosts:1\r
Host key for [10.1.2.3]:2222 has changed and you have requested strict checking.\r
Host key verification failed.\r
"""
REMOVE = "-f /home/me/.ssh/known_hosts -R '[10.1.2.3]:2222'"
REVOKED = """@       WARNING: REVOKED HOST KEY DETECTED!               @\r
The ED25519 host key for [10.1.2.3]:2222 is marked as revoked.\r
Host key verification failed.\r
"""
UNKNOWN = """No RSA host key is known for [10.1.2.3]:2222 and you have requested strict checking.\r
Host key verification failed.\r
"""
REFUSED = "ssh: connect to host 10.1.2.3 port 2222: Connection refused\r\n"
REFUSED_BY_JUMP = f"channel 0: open failed: connect failed: Connection refused\r\n{BY_JUMP}"


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """Return a function that replaces ssh with a script."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    program = tmp_path / "ssh"

    def install(text):
        program.write_text(text)
        program.chmod(0o755)
        return tmp_path / "ssh.seen"

    return install


@pytest.mark.parametrize(
    ("stderr", "reason", "fix"),
    [
        (CHANGED, "its host key is not the known one", "-R '[10.1.2.3]:2222'"),
        (
            UNKNOWN,
            "its host key is not known here",
            "ssh -p 2222 deploy@manager.example.org true, and compare the fingerprint",
        ),
        (
            "deploy@manager: Permission denied (publickey).",
            "it does not let deploy in",
            "ssh-copy-id -p 2222 deploy@manager.example.org",
        ),
        (
            "ssh: Could not resolve hostname manager: Name or service not known",
            "the name manager is not known",
            "getent hosts manager",
        ),
        (
            "ssh: connect to host manager port 2222: Connection refused",
            "nothing listens on port 2222",
            "systemctl start ssh",
        ),
        (
            "ssh: connect to host manager port 2222: Connection timed out",
            "port 2222 cannot be reached from here",
            "ssh -v -p 2222 deploy@manager.example.org",
        ),
        (
            "bash: line 1: docker: command not found",
            "there is no docker command for deploy",
            "get.docker.com",
        ),
        (
            "sh: 1: docker: not found",
            "there is no docker command for deploy",
            "get.docker.com",
        ),
        (
            "permission denied while trying to connect to the Docker daemon socket at unix:///v",
            "deploy may not use its engine",
            "usermod --append --groups docker deploy",
        ),
        (
            "failed to open the raw stream connection: dial unix /v: connect: permission denied",
            "deploy may not use its engine",
            "usermod --append --groups docker deploy",
        ),
        (
            "failed to open the raw stream: dial unix /v: connect: no such file or directory",
            "its engine does not run",
            "systemctl start docker",
        ),
        (
            "failed to open the raw stream connection: dial unix /v: connect: connection refused",
            "its engine does not run",
            "systemctl start docker",
        ),
        (
            "Cannot connect to the Docker daemon at unix:///v. Is the docker daemon running?",
            "its engine does not run",
            "systemctl start docker",
        ),
        (
            "kex_exchange_identification: Connection closed by remote host",
            "it closes the connection before login",
            "ssh -v",
        ),
        ("Bad owner or permissions on config", "other users may read", "chmod -R go-rwx"),
        (
            "first\nsomething new\n\n",
            "something new",
            "-l deploy -p 2222 -- manager.example.org docker version",
        ),
        ("", "the connection ended without an error message", "docker version"),
    ],
)
def test_an_error_of_ssh_becomes_one_line_with_a_fix(stderr, reason, fix):
    """Each failure has a reason, and a command that helps."""
    failure = explain(stderr, ADDRESS)
    assert reason in failure.reason
    assert fix in failure.fix
    assert "\n" not in str(failure)


@pytest.mark.parametrize(
    ("stderr", "reason", "fix"),
    [
        (
            UNKNOWN,
            "its host key is not known here",
            "ssh swarm_manager true, and compare the fingerprint before you answer",
        ),
        (
            CHANGED + BY_JUMP,
            "its host key is not the known one: it was reinstalled, or this is another host",
            f"ssh-keygen {REMOVE}, once you know why, then ssh swarm_manager true",
        ),
        (REVOKED, "its host key is revoked", "ssh-keygen -F '[10.1.2.3]:2222'"),
        (
            "deploy@10.1.2.3: Permission denied (publickey).",
            "it does not let you in with any key from here",
            "ssh-copy-id swarm_manager",
        ),
        (
            "ssh: Could not resolve hostname swarm.invalid: Name or service not known",
            "the name swarm.invalid is not known",
            "getent hosts swarm.invalid",
        ),
        (REFUSED, "nothing listens on port 2222", "sudo systemctl start ssh, on 10.1.2.3"),
        (
            "ssh: connect to host fd00::77 port 2222: Connection refused",
            "nothing listens on port 2222",
            "sudo systemctl start ssh, on fd00::77",
        ),
        (
            REFUSED_BY_JUMP,
            "nothing listens on its SSH port",
            "sudo systemctl start ssh, on swarm_manager",
        ),
        (
            "ssh: connect to host 10.1.2.3 port 2222: Connection timed out",
            "port 2222 cannot be reached from here",
            "ssh -v swarm_manager",
        ),
        (
            "permission denied while trying to connect to the Docker daemon socket at unix:///v",
            "you may not use its engine",
            "sudo usermod --append --groups docker $USER, on swarm_manager",
        ),
    ],
)
def test_host_and_port_are_those_of_the_users_ssh_config(stderr, reason, fix):
    """The address has only the config's name: no fix sets a port, `ssh` names what it used."""
    failure = explain(stderr, "ssh://swarm_manager")
    assert (reason, fix) == (failure.reason, failure.fix)


@pytest.mark.parametrize(
    ("address", "arguments"),
    [
        ("ssh://swarm_manager", ["--", "swarm_manager"]),
        ("ssh://Manager:22", ["-p", "22", "--", "Manager"]),
        ("ssh://me@corp@host", ["-l", "me@corp", "--", "host"]),
        ("ssh://[fe80::1]", ["--", "fe80::1"]),
        ("ssh://me@[2001:db8::1]:2222", ["-l", "me", "-p", "2222", "--", "2001:db8::1"]),
    ],
)
def test_an_address_is_split_as_docker_does(address, arguments):
    """`ssh` gets user, port and host as they are in its config, also a user with '@'."""
    assert address == types.docker_host(address) == types.ssh_host(address)
    assert arguments == SshAddress.parse(address).arguments


class TestClient:
    def test_connects_to_an_engine_through_one_ssh(self, ssh):
        """Several requests, one connection, no shell and no unknown option."""
        calls = ssh(ENGINE)
        with client.connect(ADDRESS, seconds=10) as engine:
            assert [{"ID": "node"}] == engine.nodes()
            assert [{"ID": "node"}] == engine.nodes()
        options = "-Fswarm/ssh_config -T -l deploy -p 2222"
        expected = f"{options} -- manager.example.org docker system dial-stdio"
        assert [expected] == calls.read_text().splitlines()

    def test_reports_why_ssh_failed(self, ssh):
        """The message explains ssh's error, not an aborted connection."""
        ssh("#!/bin/sh\necho 'Host key verification failed.' >&2\nexit 255\n")
        with pytest.raises(client.SshError, match="not known here; fix: ssh -p 2222"):
            client.connect(ADDRESS, seconds=10)

    def test_reports_the_port_of_the_users_ssh_config(self, tmp_path, monkeypatch):
        """As the real `ssh` names it."""
        (tmp_path / ".ssh").mkdir()
        port = free_port()
        config = f"Host swarm_manager\nHostName 127.0.0.1\nPort {port}\n"
        (tmp_path / ".ssh" / "config").write_text(config)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("DASK_SWARM_FIRST", "1")
        with pytest.raises(client.SshError, match=f"nothing listens on port {port};"):
            client.connect("ssh://swarm_manager", seconds=10)

    def test_reports_that_ssh_is_not_installed(self, tmp_path, monkeypatch):
        """With the command that installs it."""
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(client.SshError, match="apt-get install openssh-client"):
            client.connect(ADDRESS, seconds=10)

    def test_does_not_wait_forever(self, ssh):
        """An engine that does not answer is a timeout, and ssh is ended."""
        ssh("#!/bin/sh\nexec sleep 30\n")
        with pytest.raises(Exception, match="Read timed out"):
            client.connect(ADDRESS, seconds=1)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
            with pytest.raises(Exception, match=r"Read timed out. \(read timeout=1\)"):
                client.connect(address, seconds=1)

    def test_uses_certificates_for_an_engine_on_the_network(self, monkeypatch):
        """The certificates in DOCKER_CERT_PATH, as the docker command and the provider do."""
        monkeypatch.setenv("DOCKER_CERT_PATH", "/nowhere")
        with pytest.raises(TLSParameterError):
            client.connect("tcp://127.0.0.1:1", seconds=1)

    def test_speaks_tls_with_an_engine_on_the_network_only(self, monkeypatch, tmp_path):
        """Plain TCP would be open to everybody in between."""
        for name in ("ca", "cert", "key"):
            (tmp_path / f"{name}.pem").touch()
        monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
        monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
        used = []
        monkeypatch.setattr(docker, "APIClient", lambda _, **more: used.append(more["tls"]))
        client.connect("tcp://manager:2376", seconds=1)
        client.connect("unix:///var/run/docker.sock", seconds=1)
        assert (str(tmp_path / "ca.pem"), True) == (used[0].ca_cert, used[0].verify)
        assert used[1] is False

    def test_an_interrupt_at_the_terminal_does_not_end_ssh(self, ssh):
        """The program still needs it, to clean up and to roll back."""
        calls = ssh(ENGINE)
        with client.connect(ADDRESS, seconds=10):
            pid = int(calls.with_name("ssh.pid").read_text())
            assert os.getsid(pid) != os.getsid(0)

    def test_a_closed_client_leaves_no_ssh(self, ssh):
        """Not even if ssh hangs."""
        hanging = ENGINE.replace("while", "trap '' HUP\nwhile").rstrip() + "\nexec sleep 30\n"
        calls = ssh(hanging)
        with client.connect(ADDRESS, seconds=10):
            pid = int(calls.with_name("ssh.pid").read_text())
            os.kill(pid, 0)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


class TestConfig:
    """How `ssh` reads the project's file."""

    @pytest.fixture
    def settings(self, tmp_path, monkeypatch):
        """Return a function from the user's ssh config to what ssh uses."""
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("DASK_SWARM_FIRST", "1")
        (tmp_path / ".ssh").mkdir()

        def read(own):
            (tmp_path / ".ssh" / "config").write_text(own)
            call = ["ssh", *client.SSH_OPTIONS, "-G", "manager"]
            done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True)
            return dict(line.split(" ", 1) for line in done.stdout.splitlines())

        return read

    def test_the_users_settings_are_used(self, settings):
        """A name, a user, a port and a key from ~/.ssh/config."""
        used = settings("Host manager\nHostname 10.0.0.1\nUser deploy\nPort 2222\n")
        assert ("10.0.0.1", "deploy", "2222") == (
            used["hostname"], used["user"], used["port"],
        )  # fmt: skip

    def test_the_users_settings_cannot_weaken_the_connection(self, settings):
        """Host keys are checked, and nothing is prompted for or forwarded."""
        used = settings(
            "StrictHostKeyChecking no\nBatchMode no\nForwardAgent yes\nControlMaster auto\n"
        )
        assert "true" == used["stricthostkeychecking"]
        assert "yes" == used["batchmode"]
        assert "no" == used["forwardagent"]
        assert "false" == used["controlmaster"]
        assert "yes" == used["clearallforwardings"]
