"""Why `ssh` cannot reach an engine, and the fix, from its standard error; pure."""

import re
import shlex
from dataclasses import dataclass

# As Docker splits it: the last '@' ends the user, and an IPv6 address is in brackets. `ssh` itself
# takes the first '@'.
_ADDRESS = re.compile(
    r"ssh://(?:(?P<user>.+)@)?(?:\[(?P<ipv6>.+)\]|(?P<name>[^:]+))(?::(?P<port>\d+))?"
)


@dataclass(frozen=True, kw_only=True)
class SshAddress:
    """The parts of `ssh://user@host:port`; the user and the port are empty if not given."""

    user: str
    host: str
    port: str

    @classmethod
    def parse(cls, text: str) -> "SshAddress":
        """Split an address that `config.types.ssh_host` has accepted."""
        match = _ADDRESS.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not an SSH address")
        host = match["ipv6"] or match["name"]
        return cls(user=match["user"] or "", host=host, port=match["port"] or "")

    @property
    def arguments(self) -> list[str]:
        """The arguments of `ssh` for this address."""
        user, port = ["-l", self.user] if self.user else [], ["-p", self.port] if self.port else []
        return [*user, *port, "--", self.host]


@dataclass(frozen=True, kw_only=True)
class SshFailure:
    """Why a host cannot be reached, and a command that helps."""

    reason: str
    fix: str

    def __str__(self) -> str:
        """Return both in one line."""
        return f"{self.reason}; fix: {self.fix}"


# The first match counts: a pattern, the reason and the fix, with the parts of the address.
_FAILURES = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its host key is not the known one: it was reinstalled, or this is another host",
        "ssh-keygen -R '{known_as}', once you know why, then ssh-keyscan as for a new host",
    ),
    (
        "REVOKED HOST KEY|revoked",
        "its host key is revoked",
        "ssh-keygen -F '{known_as}'",
    ),
    (
        "Host key verification failed|host key is known",
        "its host key is not known here",
        "ssh-keyscan -p {port} {host} >> ~/.ssh/known_hosts, once its fingerprint is confirmed",
    ),
    (
        "bad permissions|Bad owner or permissions|UNPROTECTED PRIVATE KEY",
        "ssh refuses a key or config that other users may read or write",
        "chmod -R go-rwx ~/.ssh",
    ),
    (
        r"Permission denied \(|Too many authentication failures",
        "it does not let {user} in with any key from here",
        "ssh-copy-id -p {port} {login}",
    ),
    (
        "Could not resolve hostname",
        "the name {host} is not known",
        "getent hosts {host}",
    ),
    (
        "Connection refused",
        "nothing listens on port {port}",
        "sudo systemctl start ssh, on {host}",
    ),
    (
        "timed out|No route to host|Network is unreachable",
        "port {port} cannot be reached from here",
        "ssh -v -p {port} {login}",
    ),
    (
        r"docker: (?:command )?not found|docker: No such file|command not found: docker",
        "there is no docker command for {user}",
        "curl -fsSL https://get.docker.com | sh, on {host}",
    ),
    (
        r"(?i)permission denied.{0,40}docker|dial unix \S+: connect: permission denied",
        "{user} may not use its engine",
        "sudo usermod --append --groups docker {user}, on {host}",
    ),
    (
        r"Cannot connect to the Docker daemon|dial unix \S+: connect: (?:no such|connection)",
        "its engine does not run",
        "sudo systemctl start docker, on {host}",
    ),
    (
        r"Connection (?:closed|reset) by|kex_exchange_identification",
        "it closes the connection before login",
        "ssh -v -p {port} {login}",
    ),
)


def explain(stderr: str, address: str) -> SshFailure:
    """Return why `ssh` to `address` (`ssh://…`) failed, from its standard error."""
    parts = SshAddress.parse(address)
    host, port, user = parts.host, parts.port or "22", parts.user
    parts_of_address = {
        "host": host,
        "port": port,
        "user": user or "you",
        "login": f"{user}@{host}" if user else host,
        "known_as": host if port == "22" else f"[{host}]:{port}",
    }
    for pattern, reason, fix in _FAILURES:
        if re.search(pattern, stderr):
            return SshFailure(
                reason=reason.format(**parts_of_address), fix=fix.format(**parts_of_address)
            )
    return SshFailure(
        reason=_last_line(stderr) or "the connection ended without an error message",
        fix=f"ssh -F swarm/ssh_config {shlex.join(parts.arguments)} docker version",
    )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
