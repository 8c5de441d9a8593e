"""The wait for the probe's messages."""

import subprocess
import sys

from tests.conftest import ROOT

# The launcher has a timer too, which shows whether its engine still runs.
WAITS = """
import signal, time
from health.log_reader import LogReader

signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
end = time.monotonic() + 2
while time.monotonic() < end:
    LogReader().wait(0.001)
signal.setitimer(signal.ITIMER_REAL, 0)
"""


def test_a_signal_at_the_time_limit_does_not_make_the_wait_endless():
    """Waits end in time, whenever a timer's signal arrives."""
    command = [sys.executable, "-c", WAITS]
    assert 0 == subprocess.run(command, cwd=ROOT, timeout=30, check=False).returncode
