"""`python -m caddy.install put|remove < request.json`: exchange one file of an existing Caddy's.

The file is put in its place at once, as a whole. Then that Caddy itself validates everything that
it is configured with and reloads; when it will not, the file that was there before is put back,
and Caddy's own message is this program's. `remove` does the same with no file.

The request may hold a key or a password's hash: nothing of it but the file's place is printed.
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

NAME = "dask-swarm.caddy"
SCRIPT = Path(__file__).with_name("install.sh")
DEADLINE_SECONDS = 90
SSH_FAILED = 255


@dataclass(frozen=True, kw_only=True)
class Request:
    """Where a Caddy is and what it is to serve.

    `host` is `ssh://user@host` or empty for this machine; `directory` the one that Caddy's
    `main_file` imports; `service` the Swarm service or container that Caddy is in, or empty where
    it is a program of the host.
    """

    host: str
    directory: str
    main_file: str
    service: str
    text: str = field(repr=False)


def command(request: Request, action: str) -> list[str]:
    """Return what exchanges the file on its host, which is sent the text."""
    place = f"{request.directory}/{NAME}"
    script = ["sh", "-c", SCRIPT.read_text(encoding="utf-8"), "exchange"]
    there = [*script, action, place, request.main_file, request.service]
    return ssh_command(request.host, shlex.join(there)) if request.host else there


def exchange(request: Request, action: str) -> str:
    """Put or remove the file and return what is said about it; raises `RuntimeError`."""
    where = f"{request.directory}/{NAME} on {request.host or 'this machine'}"
    try:
        done = subprocess.run(
            command(request, action),
            input=request.text if action == "put" else "",
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
            cwd=PROJECT,
        )
    except FileNotFoundError as error:
        raise RuntimeError(f"{where}: {error.filename} is missing here") from None
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{where}: not done within {DEADLINE_SECONDS} s") from None
    if done.returncode == SSH_FAILED and request.host:
        raise RuntimeError(f"{where}: {explain(done.stderr, request.host)}")
    if done.returncode:
        raise RuntimeError(f"{where}: {verdict(done.stderr)}")
    return f"{'delivered' if action == 'put' else 'removed'} {where}"


def verdict(said: str) -> str:
    """Return what was said without the lines that Caddy logs on its way to an error."""
    return "\n".join(filter(None, map(_message, said.splitlines())))


def _message(line: str) -> str:
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
        request = Request(**json.loads(sys.stdin.read()))
        print(exchange(request, action))
    except (TypeError, ValueError) as error:
        kind = type(error).__name__
        print(f"the request on standard input is not understood ({kind})", file=sys.stderr)
        return 1
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
