"""The runners' own promise: what they started ends by itself."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

PATIENCE = 20  # seconds, for an interpreter's start on a busy machine

RUN = """
import sys
from pathlib import Path
from lab.runners import PulumiCli
done = PulumiCli(stack="dev", cli=sys.argv[1], project=Path(sys.argv[1]).parent).run("up")
print("ended with", done.returncode)
"""

SLOW_CLI = """#!/bin/bash
trap 'sleep 0.5; touch tidied; exit 3' INT
touch started
while :; do sleep 0.1; done
"""


@pytest.mark.parametrize(
    "interrupt",
    [
        pytest.param(lambda process: os.killpg(process.pid, signal.SIGINT), id="at the terminal"),
        pytest.param(lambda process: process.terminate(), id="from elsewhere"),
    ],
)
def test_interrupted_the_cli_is_left_to_tidy_up(tmp_path, interrupt):
    """Killed, it would leave the stack locked and the next deployment refused."""
    cli = tmp_path / "pulumi"
    cli.write_text(SLOW_CLI)
    cli.chmod(0o755)
    with subprocess.Popen(
        [sys.executable, "-c", RUN, str(cli)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            _wait_for(tmp_path / "started")
            interrupt(process)
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert ("ended with 3\n", "") == (out, err)
    assert (tmp_path / "tidied").exists()


def _wait_for(file):
    deadline = time.monotonic() + PATIENCE
    while not file.exists():
        assert time.monotonic() < deadline, f"{file.name} did not appear"
        time.sleep(0.05)
