"""The scripts of `command.local.Command`: run with their input, and ended with the run."""

import os
import signal
import subprocess
import threading

from lab.rehearsal.program import Resource

_running: set["subprocess.Popen[str]"] = set()
_stopping = threading.Event()


def run_script(command: Resource, action: str) -> dict[str, str]:
    """Run the script for `action`, if there is one, and return what it prints."""
    inputs = command.inputs
    if action not in inputs:
        return {"stdout": ""}
    with subprocess.Popen(
        ["/bin/sh", "-c", inputs[action]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | inputs.get("environment", {}),
        start_new_session=True,  # ^C is for this program, which ends the scripts
    ) as script:
        _running.add(script)
        if _stopping.is_set():  # perhaps since before the script was in the set
            script.terminate()
        stdout, _ = script.communicate(inputs.get("stdin", ""))
    _running.discard(script)
    if script.returncode:
        raise RuntimeError(f"{inputs[action]!r} failed with exit status {script.returncode}")
    return {"stdout": stdout.removesuffix("\n")}


def stop_scripts() -> None:
    """End the running scripts and those that start later; at a second call kill them."""
    number = signal.SIGKILL if _stopping.is_set() else signal.SIGTERM
    _stopping.set()
    for script in list(_running):
        script.send_signal(number)
