"""Explains errors of `Client` in a notebook, which do not say what to do.

IPython runs it when a kernel starts.
"""

from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

ARGUMENTS = """\
Such arguments are for a new cluster, and `Client()` connects to the one that is configured here. \
For processes of the notebook's own: Client(LocalCluster(n_workers=2))"""
EXPIRED = """\
The certificate of this notebook has expired. `pulumi up` renews it, and restarts the notebook."""


def explain(
    shell: Any,  # noqa: ANN401  IPython's
    kind: type[Exception],
    error: Exception,
    traceback: TracebackType,
    tb_offset: int | None = None,
) -> None:
    """Show an error, with a hint if it is one of `Client` that has one."""
    if str(error).startswith("Unexpected keyword arguments: "):
        error.add_note(ARGUMENTS)
    # The scheduler's reason often arrives too late, and the text is that of a broken connection.
    elif "SSL" in str(error) and has_expired():
        error.add_note(EXPIRED)
    shell.showtraceback((kind, error, traceback), tb_offset=tb_offset)


def has_expired() -> bool:
    """Return whether the certificate of Dask's clients has expired."""
    import dask
    from cryptography import x509

    file = Path(dask.config.get("distributed.comm.tls.client.cert", None) or "")
    if not file.is_file():
        return False
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    return certificate.not_valid_after_utc < datetime.now(UTC)


get_ipython().set_custom_exc((ValueError, OSError), explain)  # noqa: F821  IPython provides it
