"""An object that one worker writes to a bucket; another worker reads and deletes it.

The workers use s3fs without options, like users' tasks, and the keys that are mounted into their
containers. The probe itself has no keys.
"""

import os
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from . import UnprovenError
from .busy import failure, wait
from .members import WorkerError
from .messages import ObjectStore, say
from .tasks import RESULT_SECONDS, Client, submit

OBJECT_BYTES = 2**20
FOLDER = "dask-swarm-proof"
ANSWER_SECONDS = 15  # for a server to receive or send 1 MiB
STEP_SECONDS = ANSWER_SECONDS + 15  # half a CPU loads s3fs in 6 s
CLEANUP_SECONDS = 3  # short, so that the message of a failed proof arrives in time

# Part of an error of s3fs, its libraries or a server, to its fix; the first match counts.
FIXES = {
    "No module named": "add s3fs to extraPipPackages or to the image, or unset s3Bucket",
    "NoSuchBucket": "create the bucket, or set s3Bucket to one that exists",
    "InvalidAccessKeyId": "set s3AccessKey to a key that the server knows",
    "access key ID": "set s3AccessKey to a key that the server knows",
    "SignatureDoesNotMatch": "set s3SecretKey to the secret of s3AccessKey",
    "AccessDenied": "let the key s3AccessKey write, read and delete in the bucket s3Bucket",
    "AuthorizationHeaderMalformed": "set s3Region to the region of the server",
    "SSL validation": "check s3Endpoint, and set s3CaBundle to the authority of its certificate",
    "endpoint": "check s3Endpoint, and that the workers' nodes reach it",
    "no answer": "check s3Endpoint, and that the workers' nodes reach it",
    "no result": "check s3Endpoint, and that the workers' nodes reach it",
}
DEFAULT_FIX = "check s3Endpoint, s3Region, s3PathStyle, s3AccessKey, s3SecretKey and s3Bucket"


def prove_bucket(client: Client, engines: Mapping[str, str], store: ObjectStore) -> dict[str, Any]:
    """Let workers write, read and delete an object, on two engines if possible.

    `engines` is worker to engine. Returns bucket, bytes and seconds; raises `UnprovenError` with
    the server's error, or `BusyError`.
    """
    say(progress=f"writing to and reading from the bucket {store.bucket}")
    began = time.monotonic()
    path = f"{store.bucket}/{FOLDER}/{os.urandom(8).hex()}"
    writer, reader = two_ends(engines)
    try:
        sent = step(client, store, writer, "write", path)
        received = step(client, store, reader, "read", path)
    except BaseException:
        clean_up(client, {writer, reader}, path)
        raise
    step(client, store, reader, "delete", path)
    if sent != received:
        found = f"{reader} reads other bytes than {writer} has written"
        raise UnprovenError(f"s3://{path} at {server(store)}: {found}; check the server's storage")
    return {
        "bucket": store.bucket,
        "bytes": OBJECT_BYTES,
        "seconds": round(time.monotonic() - began, 1),
    }


def two_ends(engines: Mapping[str, str]) -> tuple[str, str]:
    """Return two workers, on two engines if possible; a single worker twice."""
    first, *others = sorted(engines)
    elsewhere = [worker for worker in others if engines[worker] != engines[first]]
    return first, next(iter([*elsewhere, *others]), first)


def step(
    client: Client,
    store: ObjectStore,
    worker: str,
    action: str,
    path: str,
) -> int:
    """Run an action on a worker; return its checksum, or raise the error."""
    future = submit(client, worker, attempt, action, path)
    wait(client, [worker], [future], STEP_SECONDS)
    if future.status == "finished":
        answer = future.result(RESULT_SECONDS)
        if not answer["error"]:
            return int(answer["checksum"])
        error = answer["error"]
    else:
        error = failure(client, worker, future, STEP_SECONDS)
    what = f"{worker} could not {action} s3://{path} at {server(store)}"
    raise WorkerError(f"{what}: {error}; {fix(error)}")


def server(store: ObjectStore) -> str:
    """Return the server's name for messages."""
    return store.endpoint or "Amazon"


def fix(error: str) -> str:
    """Return the fix of an error."""
    lowered = error.lower()
    return next((FIXES[mark] for mark in FIXES if mark.lower() in lowered), DEFAULT_FIX)


def clean_up(client: Client, workers: set[str], path: str) -> None:
    """Delete the object of a failed proof; any worker that answers will do."""
    with suppress(Exception):
        futures = [submit(client, worker, attempt, "delete", path) for worker in workers]
        wait(client, workers, futures, CLEANUP_SECONDS)


def attempt(action: str, path: str) -> dict[str, Any]:
    """Run an action on a worker; return a checksum of the bytes, and the error if any.

    An error travels as text: the client may lack the library of its class.
    """
    try:
        return {"checksum": ACTIONS[action](path), "error": ""}
    except TimeoutError:
        return {"checksum": 0, "error": f"no answer from the server after {ANSWER_SECONDS} s"}
    except Exception as error:
        return {"checksum": 0, "error": innermost(error)}


def write(path: str) -> int:
    """Write random bytes; return their checksum."""
    content = os.urandom(OBJECT_BYTES)
    call("_pipe_file", path, content)
    return zlib.crc32(content)


def read(path: str) -> int:
    """Read bytes; return their checksum."""
    return zlib.crc32(call("_cat_file", path))


def delete(path: str) -> int:
    """Delete an object; a missing object counts as deleted."""
    call("_rm_file", path)
    return 0


ACTIONS = {"write": write, "read": read, "delete": delete}


def call(method: str, *args: object) -> Any:  # noqa: ANN401
    """Call a coroutine of s3fs; raises `TimeoutError` after `ANSWER_SECONDS`."""
    from fsspec.asyn import sync  # type: ignore[import-untyped]
    from s3fs import S3FileSystem  # type: ignore[import-not-found]

    # A cached instance may have old keys. Retries would delay the error of a missing server or a
    # bad certificate.
    once = {"retries": {"max_attempts": 1}}
    store = S3FileSystem(skip_instance_cache=True, config_kwargs=once)
    store.retries = 1
    # s3fs's own timeouts do not cover the wait for "100 Continue".
    return sync(store.loop, getattr(store, method), *args, timeout=ANSWER_SECONDS)


def innermost(error: BaseException) -> str:
    """Return the error of the server or the network, which s3fs wraps in its own errors."""
    while error.__cause__:
        error = error.__cause__
    text = f"{type(error).__name__}: {error}"
    reason = str(getattr(error, "kwargs", {}).get("error", ""))  # of a failed connection
    return text if reason in text else f"{text} ({reason})"
