"""An object that one worker writes to a bucket, another one reads, and that is deleted again.

The workers do it as a user's tasks would: with s3fs, without an option, by the keys that are
mounted into their containers. This program has none of them.
"""

import os
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from . import UnprovenError
from .members import moved_or
from .messages import ObjectStore, say
from .tasks import RESULT_SECONDS, Client, submit, wait

OBJECT_BYTES = 2**20
FOLDER = "dask-swarm-proof"
ANSWER_SECONDS = 15  # for a server to take 1 MiB, or give it
STEP_SECONDS = ANSWER_SECONDS + 15  # half a CPU loads s3fs in 6 s
TIDY_SECONDS = 3  # for what a failed proof has left; its message must still be in time

# Parts of what s3fs, its libraries and servers say, and what it asks for; the first that fits.
CURES = {
    "No module named": "add s3fs to extraPipPackages or to the image, or unset s3Bucket",
    "NoSuchBucket": "create the bucket, or set s3Bucket to one that exists",
    "InvalidAccessKeyId": "set s3AccessKey to a key that the server knows",
    "access key ID": "set s3AccessKey to a key that the server knows",
    "SignatureDoesNotMatch": "set s3SecretKey to the one of s3AccessKey",
    "AccessDenied": "let the key s3AccessKey write, read and delete in the bucket s3Bucket",
    "AuthorizationHeaderMalformed": "set s3Region to the server's",
    "SSL validation": "check s3Endpoint, and set s3CaBundle to the authority that certifies it",
    "endpoint": "check s3Endpoint, and that the workers' nodes reach it",
    "no answer": "check s3Endpoint, and that the workers' nodes reach it",
}
USUAL_CURE = "check s3Endpoint, s3Region, s3PathStyle, s3AccessKey, s3SecretKey and s3Bucket"


def prove_bucket(client: Client, hosts: Mapping[str, str], store: ObjectStore) -> dict[str, Any]:
    """Write, read and delete an object by workers, on different hosts if there are several.

    `hosts` is worker to host name. Returns bucket, bytes and seconds; raises `UnprovenError` with
    the server's own words, or `MovedError`.
    """
    say(progress=f"writing to and reading from the bucket {store.bucket}")
    began = time.monotonic()
    path = f"{store.bucket}/{FOLDER}/{os.urandom(8).hex()}"
    writer, reader = two_ends(hosts)
    try:
        sent = step(client, hosts, store, writer, "write", path)
        received = step(client, hosts, store, reader, "read", path)
    except BaseException:
        tidy(client, {writer, reader}, path)
        raise
    step(client, hosts, store, reader, "delete", path)
    if sent != received:
        found = f"{reader} reads other bytes than {writer} has written"
        raise UnprovenError(f"s3://{path} at {server(store)}: {found}; check the server's storage")
    return {
        "bucket": store.bucket,
        "bytes": OBJECT_BYTES,
        "seconds": round(time.monotonic() - began, 1),
    }


def two_ends(hosts: Mapping[str, str]) -> tuple[str, str]:
    """Return two workers, on different hosts if there are several; one worker is both."""
    first, *others = sorted(hosts)
    elsewhere = [worker for worker in others if hosts[worker] != hosts[first]]
    return first, next(iter([*elsewhere, *others]), first)


def step(
    client: Client,
    hosts: Mapping[str, str],
    store: ObjectStore,
    worker: str,
    action: str,
    path: str,
) -> int:
    """Have a worker carry out an action; return its checksum, or raise what it could not do."""
    future = submit(client, worker, attempt, action, path)
    wait([future], STEP_SECONDS)
    error = f"no answer from the worker after {STEP_SECONDS} s"
    if future.status == "finished":
        answer = future.result(RESULT_SECONDS)
        if not answer["error"]:
            return int(answer["checksum"])
        error = answer["error"]
    elif future.status == "error":
        error = repr(future.exception(RESULT_SECONDS))
    what = f"{worker} could not {action} s3://{path} at {server(store)}"
    raise moved_or(client, hosts, f"{what}: {error}; {cure(error)}")


def server(store: ObjectStore) -> str:
    """Return what a message calls the server."""
    return store.endpoint or "Amazon"


def cure(error: str) -> str:
    """Return what to do about an error."""
    lowered = error.lower()
    return next((CURES[mark] for mark in CURES if mark.lower() in lowered), USUAL_CURE)


def tidy(client: Client, workers: set[str], path: str) -> None:
    """Delete what a failed proof may have left, by whichever worker is not stuck."""
    with suppress(Exception):
        futures = [submit(client, worker, attempt, "delete", path) for worker in workers]
        wait(futures, TIDY_SECONDS)


def attempt(action: str, path: str) -> dict[str, Any]:
    """Carry out an action on a worker; return a checksum of the bytes, and the error if any.

    An error travels as its words: the client need not have the library that it is from.
    """
    try:
        return {"checksum": ACTIONS[action](path), "error": ""}
    except TimeoutError:
        return {"checksum": 0, "error": f"no answer from the server after {ANSWER_SECONDS} s"}
    except Exception as error:
        return {"checksum": 0, "error": words(error)}


def write(path: str) -> int:
    """Write random bytes; return their checksum."""
    content = os.urandom(OBJECT_BYTES)
    call("_pipe_file", path, content)
    return zlib.crc32(content)


def read(path: str) -> int:
    """Read bytes; return their checksum."""
    return zlib.crc32(call("_cat_file", path))


def delete(path: str) -> int:
    """Delete an object; one that is not there counts as deleted."""
    call("_rm_file", path)
    return 0


ACTIONS = {"write": write, "read": read, "delete": delete}


def call(method: str, *args: object) -> Any:  # noqa: ANN401  what s3fs returns
    """Call a coroutine of s3fs, in time; raises `TimeoutError`."""
    from fsspec.asyn import sync  # type: ignore[import-untyped]
    from s3fs import S3FileSystem  # type: ignore[import-not-found]

    # A cached instance may have the keys of yesterday.
    once = {"retries": {"max_attempts": 1}}  # or no server, or no certificate, takes long to say
    store = S3FileSystem(skip_instance_cache=True, config_kwargs=once)
    store.retries = 1
    # The time-outs of its own do not end the wait for the leave to send.
    return sync(store.loop, getattr(store, method), *args, timeout=ANSWER_SECONDS)


def words(error: BaseException) -> str:
    """Return what the server or the network said; s3fs hides it behind errors of its own."""
    while error.__cause__:
        error = error.__cause__
    said = f"{type(error).__name__}: {error}"
    reason = str(getattr(error, "kwargs", {}).get("error", ""))  # why there is no connection
    return said if reason in said else f"{said} ({reason})"
