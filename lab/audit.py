"""Check the locked packages for known vulnerabilities with pip-audit, as `make lint` does.

It asks OSV, which knows every version of every package. If OSV cannot be reached, nothing is
checked, and the output says so.
"""

import re
import subprocess
import sys
from pathlib import Path

from lab.context import PROJECT
from lab.shell import say

LOCKS = ("requirements-dev.lock", "images/notebook.txt")  # these hold the others
# A lock with hashes is complete: pip need not resolve it.
_OPTIONS = (
    *("--vulnerability-service=osv", "--disable-pip", "--require-hashes"),
    *("--progress-spinner=off", "--timeout=15"),
)
_UNREACHABLE = re.compile(r"(?:Connection|Proxy|SSL|Service)Error|Could not connect|Timeout")


def main(options: list[str]) -> int:
    """Print the findings; return 0 if there are none or OSV cannot be reached, else 1."""
    return max(audit(lock, options) for lock in LOCKS)


def audit(lock: str, options: list[str]) -> int:
    """Print the findings of one lock; `options` are pip-audit's."""
    pip_audit = str(Path(sys.executable).with_name("pip-audit"))
    done = subprocess.run(
        [pip_audit, *_OPTIONS, f"--requirement={PROJECT / lock}", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    message = (done.stderr.strip().splitlines() or [""])[-1]
    if done.returncode and not done.stdout and _UNREACHABLE.search(done.stderr):
        reason = message.partition(":")[0]
        say(f"{lock}: not checked for known vulnerabilities, OSV cannot be reached ({reason})")
        return 0
    print(done.stdout, end="")
    say(f"{lock}: {message}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
