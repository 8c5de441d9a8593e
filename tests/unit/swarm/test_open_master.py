"""The script that opens the shared connection, with a stub of ssh."""

import os
import subprocess

import pytest

from tests.conftest import ROOT, wait_for

# `-O check` succeeds once the shared connection is open.
SSH = """#!/bin/sh
echo "$@" >>"$0.seen"
case "$*" in
*"-O check"*) [ -e "$0.open" ] ;;
*) : >"$0.open" ;;
esac
"""


@pytest.fixture
def run(tmp_path):
    """Return a function that runs the script as ssh does, and the calls of ssh."""
    (tmp_path / "ssh").write_text(SSH)
    (tmp_path / "ssh").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def run_script(**changed):
        done = subprocess.run(
            ["sh", "swarm/open_master.sh", tmp_path / "home", "edge", "22", "deploy"],
            cwd=ROOT, env=environment | changed, umask=0o022, timeout=20, check=False,
        )  # fmt: skip
        assert 0 == done.returncode
        seen = tmp_path / "ssh.seen"
        return seen.read_text().splitlines() if seen.exists() else []

    return run_script


def test_the_first_connection_opens_the_shared_connection(run, tmp_path):
    """In a folder of the user alone, and without a lock that holds up the next connections."""
    calls = run()
    opened = [call for call in calls if "ControlMaster=yes" in call]
    assert ["-F swarm/ssh_config -l deploy -p 22 -f -N -o ControlMaster=yes"] == [
        call.partition(" -o ControlPersist")[0] for call in opened
    ]
    folder = tmp_path / "home" / ".ssh"
    assert 0o700 == folder.stat().st_mode & 0o777
    wait_for("end of lock and gate", lambda: not list(folder.iterdir()), 5)


def test_an_open_connection_is_shared(run):
    """No second one is opened."""
    run()
    assert 1 == sum("ControlMaster=yes" in call for call in run())


def test_what_a_killed_process_has_left_does_not_hold_up_others(run, tmp_path):
    """Its lock and its gate are removed after a minute."""
    folder = tmp_path / "home" / ".ssh"
    for kind in ("lock", "gate"):
        (folder / f"dask-deploy-edge-22.{kind}").mkdir(parents=True)
        os.utime(folder / f"dask-deploy-edge-22.{kind}", (0, 0))
    assert any("ControlMaster=yes" in call for call in run())
    wait_for("end of lock and gate", lambda: not list(folder.iterdir()), 5)


def test_the_scripts_own_connections_open_nothing(run):
    """They would run it again and again."""
    assert [] == run(DASK_SWARM_FIRST="1")
