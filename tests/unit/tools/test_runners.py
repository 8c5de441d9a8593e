"""The runners' own promises: which CLI they take, and that what they started ends by itself."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from tools import runners

PATIENCE = 20  # seconds, for an interpreter's start on a busy machine

RUN = """
import sys
from pathlib import Path
from tools.runners import PulumiCli
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


@pytest.mark.parametrize(
    ("told", "taken"),
    [
        ("v3.259.0", True),
        ("v3.300.1-dev", True),
        ("v4.0.0", True),
        ("v3.148.0", False),
        ("what?", False),
    ],
)
def test_a_cli_that_is_older_than_the_sdk_is_passed_over(tmp_path, monkeypatch, told, taken):
    """They are tested together, and an older one may answer otherwise."""
    cli = tmp_path / "pulumi"
    cli.write_text(f"#!/bin/sh\ntest $1 = version && echo '{told}'\n")
    cli.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(runners, "PRIVATE", tmp_path / "none")
    monkeypatch.setattr(runners, "version", lambda _: "3.259.0")
    assert (str(cli) if taken else None) == runners.installed_cli()


def _wait_for(file):
    deadline = time.monotonic() + PATIENCE
    while not file.exists():
        assert time.monotonic() < deadline, f"{file.name} did not appear"
        time.sleep(0.05)
