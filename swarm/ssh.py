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


# The first match counts: a pattern, the reason and the fix, with the words of `_words`.
_FAILURES = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its host key is not the known one: it was reinstalled, or this is another host",
        "ssh-keygen -f {known_hosts} -R {entry}, once you know why, then ssh {destination} true",
    ),
    (
        "REVOKED HOST KEY|revoked",
        "its host key is revoked",
        "ssh-keygen -F {entry}",
    ),
    (
        "Host key verification failed|host key is known",
        "its host key is not known here",
        "ssh {destination} true, and compare the fingerprint before you answer",
    ),
    (
        "bad permissions|Bad owner or permissions|UNPROTECTED PRIVATE KEY",
        "ssh refuses a key or config that other users may read or write",
        "chmod -R go-rwx ~/.ssh",
    ),
    (
        r"Permission denied \(|Too many authentication failures",
        "it does not let {user} in with any key from here",
        "ssh-copy-id {destination}",
    ),
    (
        "Could not resolve hostname",
        "the name {host} is not known",
        "getent hosts {host}",
    ),
    (
        "Connection refused",
        "nothing listens on {port}",
        "sudo systemctl start ssh, on {host}",
    ),
    (
        "timed out|No route to host|Network is unreachable",
        "{port} cannot be reached from here",
        "ssh -v {destination}",
    ),
    (
        r"docker: (?:command )?not found|docker: No such file|command not found: docker",
        "there is no docker command for {user}",
        "curl -fsSL https://get.docker.com | sh, on {host}",
    ),
    (
        r"(?i)permission denied.{0,40}docker|dial unix \S+: connect: permission denied",
        "{user} may not use its engine",
        "sudo usermod --append --groups docker {account}, on {host}",
    ),
    (
        r"Cannot connect to the Docker daemon|dial unix \S+: connect: (?:no such|connection)",
        "its engine does not run",
        "sudo systemctl start docker, on {host}",
    ),
    (
        r"Connection (?:closed|reset) by|kex_exchange_identification",
        "it closes the connection before login",
        "ssh -v {destination}",
    ),
)


def explain(stderr: str, address: str) -> SshFailure:
    """Return why `ssh` to `address` (`ssh://…`) failed, from its standard error."""
    parts = SshAddress.parse(address)
    words = _words(stderr, parts)
    for pattern, reason, fix in _FAILURES:
        if re.search(pattern, stderr):
            return SshFailure(reason=reason.format(**words), fix=fix.format(**words))
    return SshFailure(
        reason=_last_line(stderr) or "the connection ended without an error message",
        fix=f"ssh -F swarm/ssh_config {shlex.join(parts.arguments)} docker version",
    )


def _words(stderr: str, parts: SshAddress) -> dict[str, str]:
    """Return what reasons and fixes name.

    What `ssh` itself names goes first: its config may set another host and port, or a jump host.
    """

    def named(pattern: str, default: str) -> str:
        match = re.search(pattern, stderr)
        return match[1] if match else default

    login = f"{parts.user}@{parts.host}" if parts.user else parts.host
    number = named(r"connect to host \S+ port (\d+)", parts.port)
    # Only upstream's texts: Debian's ssh also prints the command.
    known_hosts = named(r"Offending \S+ key in (.+):\d+", "")
    return {
        "host": named(r"(?:connect to host|resolve hostname) (\S+?):? ", parts.host),
        "port": f"port {number}" if number else "its SSH port",
        "user": parts.user or "you",
        "account": parts.user or "$USER",
        "destination": f"-p {parts.port} {login}" if parts.port else login,
        "entry": shlex.quote(named(r"[Hh]ost key for (\S+)", parts.host)),
        "known_hosts": shlex.quote(known_hosts) if known_hosts else "~/.ssh/known_hosts",
    }


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
