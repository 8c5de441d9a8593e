"""The proof of a bucket: its workers, its cleanup, and its error messages."""

import pytest

from health.probe import UnprovenError, bucket
from health.probe.messages import ObjectStore

A, B, C = "tcp://10.0.1.5:40001", "tcp://10.0.1.6:40002", "tcp://10.0.1.7:40003"
STORE = ObjectStore(bucket="dask", endpoint="https://s3.example.org")


class Future:
    """A task that is done."""

    def __init__(self, function, *args):
        self.status, self._result, self._error = "finished", None, None
        try:
            self._result = function(*args)
        except KeyError as error:
            self.status, self._error = "error", error

    def done(self):
        return True

    def result(self, seconds):
        return self._result

    def exception(self, seconds):
        return self._error


class Cluster:
    """Workers that store objects in memory, and their client."""

    def __init__(self, monkeypatch):
        self.objects, self.calls, self.refused = {}, [], {}
        self.worker = ""
        monkeypatch.setattr(bucket, "submit", self._submit)
        monkeypatch.setattr(bucket, "call", self._call)

    def _submit(self, client, worker, function, *args):
        self.worker = worker
        return Future(function, *args)

    def _call(self, method, path, *args):
        self.calls.append((self.worker, method))
        if method in self.refused:
            raise self.refused[method]
        if method == "_pipe_file":
            self.objects[path] = args[0]
        return self.objects.pop(path, None) if method == "_rm_file" else self.objects.get(path)


@pytest.fixture
def cluster(monkeypatch):
    """Return a cluster of two workers on two engines."""
    return Cluster(monkeypatch)


def prove(cluster):
    return bucket.prove_bucket(cluster, {A: "one", B: "two"}, STORE)


def test_one_worker_writes_and_another_reads(cluster):
    """The bucket is empty afterwards."""
    proof = prove(cluster)
    assert ("dask", 2**20) == (proof["bucket"], proof["bytes"])
    assert [(A, "_pipe_file"), (B, "_cat_file"), (B, "_rm_file")] == cluster.calls
    assert {} == cluster.objects


@pytest.mark.parametrize(
    ("engines", "ends"),
    [
        ({A: "one", B: "one", C: "two"}, (A, C)),
        ({A: "one", B: "one"}, (A, B)),
        ({A: "one"}, (A, A)),
    ],
)
def test_the_reader_is_as_far_away_as_can_be(engines, ends):
    """On another engine if possible, else another worker."""
    assert ends == bucket.two_ends(engines)


def test_other_bytes_fail(cluster, monkeypatch):
    """The server has lost a write."""
    monkeypatch.setitem(bucket.ACTIONS, "read", lambda _: 1)
    with pytest.raises(UnprovenError, match=r"https://s3.example.org: .* reads other bytes"):
        prove(cluster)
    assert {} == cluster.objects


@pytest.mark.parametrize("method", ["_cat_file", "_rm_file"])
def test_a_failure_has_the_error_of_the_server(cluster, method):
    """The message has worker, action, address, the server's error and a fix, but no key."""
    cluster.refused[method] = PermissionError("An error occurred (AccessDenied): no")
    with pytest.raises(UnprovenError) as caught:
        prove(cluster)
    message = str(caught.value)
    action = {"_cat_file": "read", "_rm_file": "delete"}[method]
    assert f"{B} could not {action} s3://dask/dask-swarm-proof/" in message
    assert (
        "at https://s3.example.org: PermissionError: An error occurred (AccessDenied)" in message
    )
    assert "let the key s3AccessKey write, read and delete" in message


def test_an_object_that_cannot_be_read_is_deleted(cluster):
    """A failed proof leaves no object behind."""
    cluster.refused["_cat_file"] = OSError("gone")
    with pytest.raises(UnprovenError):
        prove(cluster)
    assert {} == cluster.objects


def test_the_deadline_does_not_leave_the_object(cluster):
    """The alarm may interrupt a read."""
    cluster.refused["_cat_file"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        prove(cluster)
    assert {} == cluster.objects


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        ("ModuleNotFoundError: No module named 's3fs'", "add s3fs to extraPipPackages"),
        ("An error occurred (NoSuchBucket) when calling", "create the bucket"),
        ("(InvalidAccessKeyId) when calling the PutObject", "set s3AccessKey"),
        ("No user exists with the provided access key ID.", "set s3AccessKey"),
        ("(SignatureDoesNotMatch) when calling the PutObject", "set s3SecretKey"),
        ("SSLError: SSL validation failed for https://", "s3CaBundle"),
        ("EndpointConnectionError: Could not connect to the endpoint URL", "check s3Endpoint"),
        ("no answer from the server after 15 s", "check s3Endpoint, and"),
        ("no result after 30 s: its state is processing", "check s3Endpoint, and"),
        ("An error occurred (404) when calling the PutObject operation", "s3PathStyle"),
    ],
)
def test_every_error_has_a_fix(error, fix):
    """The fix names the config key."""
    assert fix in bucket.fix(error)


def test_the_error_is_the_innermost():
    """s3fs wraps the server's error in its own."""
    below = ValueError("An error occurred (SignatureDoesNotMatch)")
    above = PermissionError("Forbidden")
    above.__cause__ = below
    assert "ValueError: An error occurred (SignatureDoesNotMatch)" == bucket.innermost(above)


def test_a_failed_connection_has_its_reason():
    """botocore keeps the reason out of its message."""
    error = OSError("Could not connect")
    error.kwargs = {"error": OSError("Connect call failed ('10.0.0.1', 9000)")}
    assert "(Connect call failed ('10.0.0.1', 9000))" in bucket.innermost(error)
