"""How Docker checks that the program in a container works.

Owns the command of the check. `service.py` owns how often it runs and how many failures end a
task, the same for every service.
"""

from collections.abc import Sequence
from dataclasses import dataclass

# One check for start and for life, without an interpreter's start. Until the port has answered
# once, the check tries it several times a second, because a task gets its DNS name only when it is
# healthy; from then on every 15 s, because each check costs the node a process. Docker's own
# setting for this, the start interval, is missing in the provider and in older engines.
_BY_BASH = r"""
answers() {
  (exec 3<>"/dev/tcp/127.0.0.1/$0" && printf 'GET %s HTTP/1.0\r\n\r\n' "$1" >&3 &&
   IFS= read -r -t 10 status <&3 && [[ $status == *' 200 '* ]]) 2>/dev/null
}
if [[ -e /tmp/.healthy ]]; then sleep 15; answers "$1"; exit; fi
until answers "$1"; do ((SECONDS < 20)) || exit 1; sleep 0.25; done
: >/tmp/.healthy
""".strip()

# The same for any shell, in images that have wget instead of bash.
_BY_WGET = r"""
answers() { wget -q -T 10 -O /dev/null "http://127.0.0.1:$1$2" 2>/dev/null; }
if [ -e /tmp/.healthy ]; then sleep 15; answers "$0" "$1"; exit; fi
tries=0
until answers "$0" "$1"; do
  tries=$((tries + 1)); [ "$tries" -lt 80 ] || exit 1; sleep 0.25
done
: >/tmp/.healthy
""".strip()


@dataclass(frozen=True, kw_only=True)
class HealthCheck:
    """An HTTP address inside the container that answers 200 when the program in it works.

    The check runs bash, or wget in an image without bash.
    """

    port: int
    path: str
    by_wget: bool = False

    @property
    def command(self) -> list[str]:
        """What Docker runs in the container."""
        shell = ["sh", "-c", _BY_WGET] if self.by_wget else ["bash", "-c", _BY_BASH]
        return [*shell, str(self.port), self.path]


@dataclass(frozen=True, kw_only=True)
class Script:
    """A command in the container that exits with 0 when the program in it works."""

    command: Sequence[str]
