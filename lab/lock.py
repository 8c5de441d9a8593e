"""Renewing the locked requirements of the images; nothing but this writes images/*.txt."""

from shutil import which

from lab.context import SOURCE
from lab.shell import LabError, run, step

_NAMES = ("dask", "notebook")  # in this order: the notebook's lock is held to dask's
_COMPILE = [
    "uv", "pip", "compile", "--quiet", "--upgrade", "--universal", "--python-version", "3.11",
    "--fork-strategy", "fewest", "--generate-hashes", "--no-annotate",
    "--custom-compile-command", "python -m lab lock",
]  # fmt: skip


def renew() -> None:
    """Lock the newest versions that images/*.in allow; `LabError` where uv is missing or fails."""
    if not which("uv"):
        raise LabError("uv is missing: `pip install uv`, then run this again")
    for name in _NAMES:
        with step(f"locking {name}.txt"):
            files = ["--output-file", str(SOURCE / f"{name}.txt"), str(SOURCE / f"{name}.in")]
            run([*_COMPILE, *files], seconds=300)
