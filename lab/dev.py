"""`make` for the dev stack: a Swarm on this machine, made ready before `up`.

Without the Pulumi CLI the rehearsal runs the program.
"""

import signal
import sys
from collections.abc import Sequence

from lab.__main__ import main as lab
from lab.runners import RehearsalRunner
from tools.deploy import parser_of, run
from tools.runners import CliMissingError, Runner, runner_for, say

STACK = "dev"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one action on the dev stack and return the exit code."""
    chosen = parser_of("lab.dev", __doc__).parse_args(arguments)
    if chosen.action == "up" and (status := lab(["ready"])):
        return status
    runner = dev_runner()
    if chosen.action == "drift" and isinstance(runner, RehearsalRunner):
        say("The rehearsal cannot detect drift. Fix: install the Pulumi CLI")
        return 2
    return run(runner, chosen)


def dev_runner() -> Runner:
    """Return the Pulumi CLI or, where it cannot be had, the rehearsal."""
    try:
        return runner_for(STACK)
    except CliMissingError as error:
        say(str(error))
        say("Using the rehearsal instead: good for this machine, but not the Pulumi engine.")
        return RehearsalRunner(stack=STACK)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the image builder as ^C does
    sys.exit(main())
