"""Mutual TLS: scheduler and workers admit this stack's certificates and refuse all others."""

import socket
import ssl
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

from . import UnprovenError
from .busy import ASKED_AT_ONCE
from .deadline import PAUSE_SECONDS
from .members import WorkerError
from .messages import Tls, say

ANSWER_SECONDS = 5
SILENT_SECONDS = 30  # a task can hold the interpreter of a worker meanwhile
OLD_SECONDS = 20  # for the end of a scheduler that this deployment replaces
NO_HELLO = b"\0" * 64  # no TLS client begins with this
EARLY = "is not valid yet: the clock of {} is behind; sudo timedatectl set-ntp true there"
# OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED.
INVALID = {
    9: "its certificate " + EARLY.format("the probe's node (controlPlacement)"),
    10: "its certificate is expired",
}
REFUSED = {
    "CERTIFICATE_EXPIRED": "the certificate of this program is expired",
    # TLS has no alert for this, and nothing else is bad about this stack's certificates.
    "BAD_CERTIFICATE": "the certificate of this program " + EARLY.format("the scheduler's node"),
    "UNKNOWN_CA": "the certificate of this program is foreign",
    "WRONG_VERSION_NUMBER": "it uses plain TCP",
}


def use_certificate(tls: Tls) -> None:
    """Have distributed use the stack's certificate in this process."""
    import dask
    import distributed  # noqa: F401  its defaults would come later, and last

    dask.config.update(dask.config.config, tls.dask_config)


def wait_until_admitted(address: str) -> None:
    """Wait until the scheduler admits this stack's certificate; raises `UnprovenError` if not."""
    end, context = time.monotonic() + OLD_SECONDS, own_context()
    while reason := refusal_or_silence(address, context):
        if time.monotonic() > end:
            raise UnprovenError(f"expected {address} to admit this stack's programs: {reason}")
        say(progress=f"{address}: {reason}")
        time.sleep(PAUSE_SECONDS)


def prove_tls(scheduler: str, workers: Iterable[str], tls: Tls) -> dict[str, Any]:
    """Prove that strangers are refused, and return how long the certificates are valid.

    Raises `UnprovenError` for an address that admits a stranger, `WorkerError` for an address that
    does not answer for `SILENT_SECONDS` or whose own certificate is not valid here.
    """
    strangers = {
        "plain TCP": None,
        "TLS without a certificate": stranger_context(),
        "a certificate of a foreign CA": stranger_context(tls.foreign_file),
    }
    own = own_context()

    def end(address: str) -> float | None:
        try:
            for stranger, context in strangers.items():
                if not refusal(address, context):
                    raise UnprovenError(f"{address} admits a program with {stranger}")
            return end_of_certificate(address, own)
        except TimeoutError:
            return None
        except OSError as error:
            raise WorkerError(f"expected a certificate at {address}: {explain(error)}") from error

    addresses: list[str] = [scheduler, *workers]
    ends: dict[str, float] = {}
    latest = time.monotonic() + SILENT_SECONDS
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        while silent := [address for address in addresses if address not in ends]:
            if time.monotonic() > latest:
                raise WorkerError(f"no answer from {', '.join(silent)} within {SILENT_SECONDS} s")
            answers = zip(silent, pool.map(end, silent), strict=True)
            ends |= {address: answer for address, answer in answers if answer is not None}
    return {
        "scheduler": validity(ends[scheduler]),
        "workers": validity(min(ends[worker] for worker in workers)),
    }


def own_context() -> ssl.SSLContext:
    """Return the TLS context of this stack's clients."""
    from distributed.security import Security

    context: ssl.SSLContext = Security().get_connection_args("client")["ssl_context"]  # type: ignore[no-untyped-call]
    return context


def stranger_context(certificate: str | None = None) -> ssl.SSLContext:
    """Return a TLS context that accepts every peer, with a file's certificate, if any."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(certificate)
    return context


def refusal_or_silence(address: str, context: ssl.SSLContext) -> str:
    """Return why an address refuses a program or does not answer, empty if it admits it."""
    try:
        return refusal(address, context)
    except TimeoutError:
        return f"no answer within {ANSWER_SECONDS} s"


def refusal(address: str, context: "ssl.SSLContext | None") -> str:
    """Return why an address refuses a program with a TLS context, empty if it admits the program.

    Without a context the program uses plain TCP. Raises `TimeoutError` if the address is silent: a
    Dask server closes the connections that it refuses.
    """
    try:
        with connection(address) as plain:
            if context is None:
                plain.sendall(NO_HELLO)
                return first_answer(plain)
            with context.wrap_socket(plain) as encrypted:
                return first_answer(encrypted)
    except TimeoutError:
        raise
    except OSError as error:
        return explain(error)


def connection(address: str) -> socket.socket:
    """Return a connection to `tls://host:port`."""
    url = urlsplit(address)
    return socket.create_connection((url.hostname, url.port), timeout=ANSWER_SECONDS)


def first_answer(peer: socket.socket) -> str:
    """Return why a peer does not greet, empty if it does: Dask greets whom it admits."""
    return "" if peer.recv(1) else "it closes the connection"


def explain(error: OSError) -> str:
    """Return in words why a connection failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return INVALID.get(error.verify_code, "its certificate is foreign")
    if not isinstance(error, ssl.SSLError):
        return f"the connection breaks: {error}"
    reason = error.reason or str(error)
    for part, words in REFUSED.items():
        if part in reason:
            return words
    return f"TLS fails with {reason}"


def end_of_certificate(address: str, context: ssl.SSLContext) -> float:
    """Return the time in seconds since 1970 when the certificate at an address ends."""
    with connection(address) as plain, context.wrap_socket(plain) as encrypted:
        certificate: Any = encrypted.getpeercert()
        return ssl.cert_time_to_seconds(certificate["notAfter"])


def validity(end: float) -> dict[str, Any]:
    """Return the last day of a certificate and the number of days until then."""
    last = datetime.fromtimestamp(end, timezone.utc)  # noqa: UP017  Python 3.10 has no UTC
    return {"valid_until": last.date().isoformat(), "days": int((end - time.time()) // 86400)}
