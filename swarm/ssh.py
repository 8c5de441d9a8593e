"""What `ssh` says when it does not get to an engine, as one line with its cure; pure."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Why a manager cannot be reached, and a command that helps."""

    text: str
    cure: str


# The first that fits counts: of several lines, the one that says what is really wrong. A cure is
# filled with the parts of the address.
_CAUSES = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its host key is not the known one: it was installed anew, or this is another host",
        "ssh-keygen -R '{known_as}', once it is clear why, then ssh-keyscan as for a new host",
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
        "ssh refuses a key or config that others may read or write",
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
        "it closes the connection before the login",
        "ssh -v -p {port} {login}",
    ),
)


def explain(said: str, address: str) -> Cause:
    """Return the cause behind what was said on standard error on the way to `ssh://…`."""
    parts = urlsplit(address)
    host, port, user = parts.hostname or "", parts.port or 22, parts.username or ""
    known = {
        "host": host,
        "port": port,
        "user": user or "you",
        "login": f"{user}@{host}" if user else host,
        "known_as": host if port == 22 else f"[{host}]:{port}",
    }
    for pattern, text, cure in _CAUSES:
        if re.search(pattern, said):
            return Cause(text=text.format(**known), cure=cure.format(**known))
    return Cause(
        text=_last_line(said) or "the connection ended without a word",
        cure=f"ssh -F swarm/ssh_config {address} docker version",
    )


def _last_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else ""
