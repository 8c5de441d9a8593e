"""A real object store: proven and used by workers, with keys that are shown nowhere."""

import base64
import json
import os
import secrets
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, field

import docker
import pytest

from bench.under_computation import under_computation
from tests.conftest import ROOT
from tests.swarm import s3
from tests.swarm.conftest import RUNNERS, task_ids, wait_until_gone
from tests.swarm.containers import notebook_container
from tests.swarm.notebooks import run_example

pytestmark = pytest.mark.skipif("pulumi" not in RUNNERS, reason="only the Pulumi CLI has secrets")
BUCKET = "dask"
DEADLINE = 240
# Sets the variables as Jupyter's settings do for kernels.
DATASET = """
import json, os, pathlib, sys
os.environ.update(json.loads(pathlib.Path("/run/secrets/dask_environment").read_text()))
import cloudpickle, pandas, dask.dataframe as dd
from dask.distributed import Client

library = sys.argv[1]
where = f"s3://{os.environ['S3_BUCKET']}/{library}"
frame = pandas.DataFrame({"number": range(1000), "group": [number % 3 for number in range(1000)]})
with Client("scheduler:8786", timeout="60s") as client:
    writing = dd.from_pandas(frame, npartitions=4).to_parquet(
        where, partition_on="group", compute=False, filesystem=library
    )
    writing.compute()
    whole = dd.read_parquet(where, filesystem=library)
    # With filters Dask's scheduler reads the metadata of the files.
    part = dd.read_parquet(where, filesystem=library, filters=[("number", ">=", 500)])
    totals = [int(frame.number.sum().compute()) for frame in (whole, part)]
    works = (writing, whole, part)
    graphs = b"".join(cloudpickle.dumps(work.__dask_graph__()) for work in works)
print(json.dumps({"totals": totals, "graphs": graphs.hex()}))
"""
TOTALS = [sum(range(1000)), sum(range(500, 1000))]


@dataclass(kw_only=True)
class Stack:
    """A deployed stack with an object store, and all keys that it has had."""

    deployment: object
    server: s3.Server
    printed: str = ""
    keys: list = field(default_factory=list)

    def configure(self, access_key, secret_key, **changes):
        """Set new keys; the engine encrypts the secret key."""
        self.keys.append((access_key, secret_key))
        config = {
            "workers": 2,
            "healthDeadline": DEADLINE,
            "s3Endpoint": self.server.endpoint,
            "s3AccessKey": access_key,
            "s3SecretKey": self.deployment.encrypted("s3SecretKey", secret_key),
            "s3CaBundle": self.server.ca,
            "s3Bucket": BUCKET,
            # pyarrow reads the certificates here.
            "environment": {"SSL_CERT_FILE": "/etc/dask-swarm/s3-ca.pem"},
        }
        self.deployment.configure(**config | changes)

    def up(self):
        """Deploy, and keep the output."""
        self.printed += self.deployment.run("up")
        return self.deployment.runner.outputs()["health"]


def new_keys():
    """Return an access key and a secret key with special characters of file formats."""
    return f"AK[{secrets.token_hex(6)}]#x;y", f"#{secrets.token_hex(16)};[default]=%(x)s\\"


@pytest.fixture(scope="module")
def stack(lab, swarm, new_deployment, tmp_path_factory):
    """Return a small stack with an object store on this machine, destroyed at the end."""
    assert not wait_until_gone(swarm)
    folder = tmp_path_factory.mktemp("s3")
    with s3.prepared_server(lab.gateway, folder, BUCKET) as server:
        stack = Stack(deployment=new_deployment("pulumi"), server=server)
        keys = new_keys()
        server.start(*keys)
        stack.configure(*keys)
        try:
            stack.up()
            yield stack
        finally:
            stack.deployment.run("destroy")


def in_notebook(lab, program, *arguments):
    """Run a Python program in the notebook's container, and return its standard output."""
    with notebook_container(lab) as container:
        status, (out, err) = container.exec_run(
            ["timeout", "240", "python", "-c", program, *arguments], demux=True
        )
        assert 0 == status, (err or b"").decode()
        return out.decode()


def encodings(text):
    """Yield a text, and its base64 at every offset inside a longer text."""
    yield text.encode()
    for before in range(3):
        encoded = base64.b64encode(b"x" * before + text.encode())
        yield encoded[4 if before else 0 : len(encoded) // 4 * 4 - 4]


def test_the_deployment_has_proven_the_bucket(stack):
    """The output shows the size of the test object, which is deleted afterwards."""
    health = stack.deployment.runner.outputs()["health"]
    proven = health["object_store"]
    assert (BUCKET, 2**20) == (proven["bucket"], proven["bytes"])
    assert 0 < proven["seconds"] < health["seconds"]
    assert [] == stack.server.objects(BUCKET)


@pytest.mark.parametrize("filesystem", ["fsspec", "arrow"])
def test_a_dataset_is_written_and_read_without_options(stack, lab, filesystem):
    """Workers write and read partitions with either library, and no graph has a key."""
    done = json.loads(in_notebook(lab, DATASET, filesystem))
    assert TOTALS == done["totals"]
    written = stack.server.objects(BUCKET)
    groups = {path.split("/")[1] for path in written if path.startswith(f"{filesystem}/")}
    assert {"group=0", "group=1", "group=2"} <= groups
    graphs = bytes.fromhex(done["graphs"])
    for key in stack.keys[-1]:
        assert not any(encoding in graphs for encoding in encodings(key))


def test_the_example_writes_and_reads_dataframes(stack, lab):
    """It runs as for a user, with the configured bucket."""
    with notebook_container(lab) as notebook:
        printed = run_example(notebook, "2-dataframes-on-s3")
    assert f"The bucket is {BUCKET}" in printed
    assert "rows in 7 partitions" in printed


def test_a_new_key_is_proven_and_used(stack, swarm, lab):
    """Workers and notebook are replaced; the scheduler loses no other client's work."""
    before, keys = task_ids(swarm), new_keys()
    stack.server.start(*keys)
    stack.configure(*keys)
    losses = under_computation(lab.docker_host, 2, 8, 8, stack.up, service="dask_scheduler")
    assert losses["right"]
    assert (2, 0, 0) == tuple(losses[key] for key in ("workers", "lost_blocks", "repeated_tasks"))
    assert 2**20 == stack.deployment.runner.outputs()["health"]["object_store"]["bytes"]
    after = task_ids(swarm)
    kept = {name for name in before if before[name] & after[name]}
    assert {"dask_scheduler"} == kept == before.keys() - {"dask_worker", "dask_notebook"}
    for filesystem in ("fsspec", "arrow"):
        assert TOTALS == json.loads(in_notebook(lab, DATASET, filesystem))["totals"]


def test_a_wrong_key_is_refused_in_the_servers_words(stack, lab):
    """The message names the key and the fix, and the old deployment still works."""
    good = stack.keys[-1]
    stack.configure("AKIAWRONG", good[1])
    printed = stack.deployment.fail("up")
    stack.printed += printed
    assert "provided access key ID" in printed
    assert "set s3AccessKey to a key that the server knows" in printed
    assert "as before this update" in printed
    done = json.loads(in_notebook(lab, DATASET, "fsspec"))
    assert TOTALS == done["totals"]
    stack.configure(*good)
    assert BUCKET == stack.up()["object_store"]["bucket"]


def request_of(stack):
    """Return the request of the deployment's probe."""
    exported = stack.deployment.runner._call(["stack", "export", "--stack", "test"], capture=True)
    resources = json.loads(exported.stdout)["deployment"]["resources"]
    (command,) = [item for item in resources if item["urn"].endswith("::dask-health-run")]
    return json.loads(command["inputs"]["stdin"])


def failure_of(lab, request):
    """Run the probe, which must fail, and return its message."""
    done = subprocess.run(
        [sys.executable, "-m", "health"],
        cwd=ROOT,
        env=os.environ | {"DOCKER_HOST": lab.docker_host},
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (1, "") == (done.returncode, done.stdout)
    return done.stderr


def test_a_missing_bucket_is_reported(stack, lab):
    """The message has the server's error, and the key to change."""
    request = request_of(stack)
    request["object_store"]["bucket"] = "no-such-bucket"
    message = failure_of(lab, request)
    assert "NoSuchBucket" in message
    assert "create the bucket, or set s3Bucket" in message


def test_an_unreachable_server_is_reported(stack, lab):
    """The message names the address that refuses the connection."""
    stack.server.stop()
    try:
        message = failure_of(lab, request_of(stack))
    finally:
        stack.server.start(*stack.keys[-1])
    assert f"Cannot connect to host {lab.gateway}:{s3.PORT}" in message
    assert "check s3Endpoint, and that the workers' nodes reach it" in message


def readable_texts(stack, lab, swarm):
    """Yield all texts that a reader without the keys can see, with their places."""
    yield "output of deployments", stack.printed
    yield "outputs", json.dumps(stack.deployment.runner.outputs(secrets=True))
    exported = stack.deployment.runner._call(["stack", "export", "--stack", "test"], capture=True)
    yield "state", exported.stdout
    for service in swarm.services.list():
        yield f"inspect {service.name}", json.dumps(service.attrs)
        logs = service.logs(stdout=True, stderr=True)
        yield f"log of {service.name}", b"".join(logs).decode(errors="replace")
    for kind in (swarm.secrets, swarm.configs):
        yield "secrets and configs", json.dumps([resource.attrs for resource in kind.list()])
    for node in lab.nodes:
        with closing(docker.DockerClient(node.docker_host)) as engine:
            containers = [container.attrs for container in engine.containers.list(all=True)]
            yield f"containers on {node.name}", json.dumps(containers)


def test_no_key_is_shown_anywhere(stack, lab, swarm):
    """No old or new key is in Docker's data, logs, output or state."""
    secret_keys = [form for _, secret in stack.keys for form in encodings(secret)]
    for place, text in readable_texts(stack, lab, swarm):
        assert not any(key in text.encode() for key in secret_keys), place
