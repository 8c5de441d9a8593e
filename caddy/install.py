"""`python -m caddy.install put|remove < request.json`: replace or remove one file of a Caddy.

An existing Caddy imports the file. The program replaces it atomically, lets Caddy validate its
whole configuration and reloads it. If Caddy refuses, the program restores the file of before and
prints Caddy's message.

The request may hold a key or a password's hash: of it only the file's path is printed.
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from swarm.client import PROJECT, ssh_command
from swarm.ssh import explain

SCRIPT = Path(__file__).with_name("install.sh")
DEADLINE_SECONDS = 90
SSH_FAILED = 255


@dataclass(frozen=True, kw_only=True)
class InstallRequest:
    """Where an existing Caddy is, and the text that it imports.

    `host` is `ssh://user@host`, or empty for this machine. Caddy's `main_file` imports
    `directory`. `service` is Caddy's Swarm service or container, or empty if Caddy runs on the
    host itself.
    """

    host: str
    directory: str
    main_file: str
    service: str
    text: str = field(repr=False)
    file: str = "dask-swarm.caddy"

    @property
    def path(self) -> str:
        """The file on Caddy's host."""
        return f"{self.directory}/{self.file}"


def install_command(request: InstallRequest, action: str) -> list[str]:
    """Return the command that reads the text and puts or removes the file on Caddy's host."""
    script = ["sh", "-c", SCRIPT.read_text(encoding="utf-8"), "install"]
    command = [*script, action, request.path, request.main_file, request.service]
    return ssh_command(request.host, shlex.join(command)) if request.host else command


def install(request: InstallRequest, action: str) -> str:
    """Put or remove the file and return a message; raises `RuntimeError`."""
    where = f"{request.path} on {request.host or 'this machine'}"
    try:
        done = subprocess.run(
            install_command(request, action),
            input=request.text if action == "put" else "",
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
            cwd=PROJECT,
        )
    except FileNotFoundError as error:
        raise RuntimeError(f"{where}: {error.filename} is not installed here") from None
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{where}: not finished within {DEADLINE_SECONDS} s") from None
    if done.returncode == SSH_FAILED and request.host:
        raise RuntimeError(f"{where}: {explain(done.stderr, request.host)}")
    if done.returncode:
        raise RuntimeError(f"{where}: {error_message(done.stderr)}")
    return f"{'installed' if action == 'put' else 'removed'} {where}"


def error_message(stderr: str) -> str:
    """Return `stderr` without Caddy's log lines below the level of an error."""
    return "\n".join(filter(None, map(_plain_line, stderr.splitlines())))


def _plain_line(line: str) -> str:
    if not line.startswith("{"):
        return line
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    return str(entry.get("msg", line)) if entry.get("level") == "error" else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out the request on standard input and return the exit code."""
    (action,) = sys.argv[1:] if arguments is None else arguments
    try:
        request = InstallRequest(**json.loads(sys.stdin.read()))
        print(install(request, action))
    except (TypeError, ValueError) as error:
        kind = type(error).__name__
        print(f"the request on standard input is not valid ({kind})", file=sys.stderr)
        return 1
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
