"""The usual place of an engine's socket, where the dev stack and Docker clients look first."""

from pathlib import Path

from lab.engine import answers
from lab.shell import LabError, say

USUAL = Path("/var/run/docker.sock")


def offer(address: str) -> None:
    """Make a local engine answer at the usual place too; raises `LabError` where it cannot."""
    socket = Path(address.removeprefix("unix://"))
    if USUAL.resolve() == socket.resolve():
        return
    try:
        _link(socket)
    except OSError as error:
        raise LabError(
            f"the engine at {address} is not at {USUAL} ({error.strerror}), where the dev stack"
            f" looks for it: pulumi config set --stack dev dockerHost {address}"
        ) from None


def withdraw(directory: Path) -> None:
    """Remove the link to a socket below a directory, if there is one."""
    if USUAL.is_symlink() and USUAL.readlink().is_relative_to(directory):
        USUAL.unlink()


def _link(socket: Path) -> None:
    if USUAL.is_symlink() and not answers(f"unix://{USUAL}"):
        USUAL.unlink()
    USUAL.symlink_to(socket)
    say(f"{USUAL} leads to {socket}")
