"""Says in a notebook what `Client(n_workers=2)` means: its own error does not.

IPython runs it when a kernel starts.
"""

from types import TracebackType
from typing import Any

HINT = """\
Such arguments are for a new cluster, and `Client()` connects to the one that is configured here. \
For processes of the notebook's own: Client(LocalCluster(n_workers=2))"""


def explain(
    shell: Any,  # noqa: ANN401  IPython's
    kind: type[Exception],
    error: Exception,
    traceback: TracebackType,
    tb_offset: int | None = None,
) -> None:
    """Show an error, with a hint if it is the one of `Client` for arguments of a cluster."""
    if str(error).startswith("Unexpected keyword arguments: "):
        error.add_note(HINT)
    shell.showtraceback((kind, error, traceback), tb_offset=tb_offset)


get_ipython().set_custom_exc((ValueError,), explain)  # noqa: F821  IPython provides it
