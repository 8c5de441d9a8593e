"""An object store for real: proven, used by workers, with keys that are nowhere to be read."""

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
from tests.swarm.conftest import RUNNERS, cluster_services, wait_until_gone
from tests.swarm.notebooks import deployed_notebook, run_example

pytestmark = pytest.mark.skipif("pulumi" not in RUNNERS, reason="only the Pulumi CLI has secrets")
BUCKET = "dask"
DEADLINE = 240
# Jupyter's settings give the variables to kernels; this program is started beside them.
DATASET = """
import json, os, pathlib, sys
os.environ.update(json.loads(pathlib.Path("/run/secrets/dask_environment").read_text()))
import cloudpickle, pandas, dask.dataframe as dd
from dask.distributed import Client

library = sys.argv[1]
where = f"s3://{os.environ['S3_BUCKET']}/{library}"
frame = pandas.DataFrame({"number": range(1000), "group": [each % 3 for each in range(1000)]})
with Client("scheduler:8786", timeout="60s") as client:
    writing = dd.from_pandas(frame, npartitions=4).to_parquet(
        where, partition_on="group", compute=False, filesystem=library
    )
    writing.compute()
    whole = dd.read_parquet(where, filesystem=library)
    # For these Dask's scheduler reads the metadata of the files.
    part = dd.read_parquet(where, filesystem=library, filters=[("number", ">=", 500)])
    totals = [int(each.number.sum().compute()) for each in (whole, part)]
    graphs = b"".join(cloudpickle.dumps(each.__dask_graph__()) for each in (writing, whole, part))
print(json.dumps({"totals": totals, "graphs": graphs.hex()}))
"""
TOTALS = [sum(range(1000)), sum(range(500, 1000))]


@dataclass(kw_only=True)
class Stack:
    """A deployed stack with an object store, and the keys that it has at present."""

    deployment: object
    server: s3.Server
    printed: str = ""
    keys: list = field(default_factory=list)

    def configure(self, access_key, secret_key, **changes):
        """Set keys; the secret one is encrypted as the engine does it."""
        self.keys.append((access_key, secret_key))
        config = {
            "workers": 2,
            "healthDeadline": DEADLINE,
            "s3Endpoint": self.server.endpoint,
            "s3AccessKey": access_key,
            "s3SecretKey": self.deployment.encrypted("s3SecretKey", secret_key),
            "s3CaBundle": self.server.ca,
            "s3Bucket": BUCKET,
            # pyarrow's way to the certificates.
            "environment": {"SSL_CERT_FILE": "/etc/dask-swarm/s3-ca.pem"},
        }
        self.deployment.configure(**config | changes)

    def up(self):
        """Deploy, and keep what was printed."""
        self.printed += self.deployment.run("up")
        return self.deployment.runner.outputs()["health"]


def new_keys():
    """Return an access key and a secret key, with characters that other files' forms end at."""
    return f"AK[{secrets.token_hex(6)}]#x;y", f"#{secrets.token_hex(16)};[default]=%(x)s\\"


@pytest.fixture(scope="module")
def stack(lab, swarm, new_deployment, tmp_path_factory):
    """Return a small stack whose object store is on this machine; destroyed in the end."""
    assert not wait_until_gone(swarm)
    folder = tmp_path_factory.mktemp("s3")
    with s3.server(lab.gateway, folder, BUCKET) as server:
        made = Stack(deployment=new_deployment("pulumi"), server=server)
        keys = new_keys()
        server.start(*keys)
        made.configure(*keys)
        try:
            made.up()
            yield made
        finally:
            made.deployment.run("destroy")


def in_notebook(lab, program, *arguments):
    """Run a Python program in the notebook's container, and return what it printed."""
    with closing(docker.DockerClient(lab.docker_host)) as engine:
        wanted = {"label": "com.docker.swarm.service.name=dask_notebook"}
        (container,) = engine.containers.list(filters=wanted)
        status, (out, err) = container.exec_run(
            ["timeout", "240", "python", "-c", program, *arguments], demux=True
        )
        assert 0 == status, (err or b"").decode()
        return out.decode()


def running(swarm):
    """Return the ids of the tasks that are to run, by service."""
    wanted = {"desired-state": "running"}
    return {
        each.name: {task["ID"] for task in each.tasks(filters=wanted)} for each in cluster_services(swarm)
    }


def forms(text):
    """Return a text as it is, and what base64 makes of it wherever in a longer one it stands."""
    yield text.encode()
    for before in range(3):
        encoded = base64.b64encode(b"x" * before + text.encode())
        yield encoded[4 if before else 0 : len(encoded) // 4 * 4 - 4]


def test_the_deployment_has_proven_the_bucket(stack):
    """The output says what was written and read, and nothing of it is left."""
    health = stack.deployment.runner.outputs()["health"]
    proven = health["object_store"]
    assert (BUCKET, 2**20) == (proven["bucket"], proven["bytes"])
    assert 0 < proven["seconds"] < health["seconds"]
    assert [] == stack.server.objects(BUCKET)


@pytest.mark.parametrize("filesystem", ["fsspec", "arrow"])
def test_a_dataset_goes_there_and_back_without_options(stack, lab, filesystem):
    """Workers write partitions and read them, and no key is in a graph, by either library."""
    done = json.loads(in_notebook(lab, DATASET, filesystem))
    assert TOTALS == done["totals"]
    written = stack.server.objects(BUCKET)
    groups = {each.split("/")[1] for each in written if each.startswith(f"{filesystem}/")}
    assert {"group=0", "group=1", "group=2"} <= groups
    for key in stack.keys[-1]:
        assert not any(form in bytes.fromhex(done["graphs"]) for form in forms(key))


def test_the_example_writes_and_reads_dataframes(stack, lab):
    """As a person opens it, with the bucket that is configured."""
    with deployed_notebook(lab) as notebook:
        printed = run_example(notebook, "2-dataframes-on-s3")
    assert f"The bucket is {BUCKET}" in printed
    assert "rows in 7 partitions" in printed


def test_another_key_is_proven_and_used(stack, swarm, lab):
    """Workers and notebook are replaced; a computation loses nothing, by the same scheduler."""
    before, keys = running(swarm), new_keys()
    stack.server.start(*keys)
    stack.configure(*keys)
    found = under_computation(lab.docker_host, 2, 8, 8, stack.up, service="dask_scheduler")
    assert found["right"]
    assert (2, 0, 0) == tuple(found[key] for key in ("workers", "lost_blocks", "repeated_tasks"))
    assert 2**20 == stack.deployment.runner.outputs()["health"]["object_store"]["bytes"]
    after = running(swarm)
    kept = {name for name in before if before[name] & after[name]}
    assert {"dask_scheduler"} == kept == before.keys() - {"dask_worker", "dask_notebook"}
    for filesystem in ("fsspec", "arrow"):
        assert TOTALS == json.loads(in_notebook(lab, DATASET, filesystem))["totals"]


def test_a_wrong_key_is_refused_in_the_servers_words(stack, lab):
    """The message names key and cure, and what was there before works on."""
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
    """Return what the probe of the deployment is asked."""
    found = stack.deployment.runner._call(["stack", "export", "--stack", "test"], capture=True)
    resources = json.loads(found.stdout)["deployment"]["resources"]
    (run,) = [each for each in resources if each["urn"].endswith("::dask-health-run")]
    return json.loads(run["inputs"]["stdin"])


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


def test_a_bucket_that_is_not_there_is_named(stack, lab):
    """With what the server says, and the key to change."""
    request = request_of(stack)
    request["object_store"]["bucket"] = "no-such-bucket"
    message = failure_of(lab, request)
    assert "NoSuchBucket" in message
    assert "create the bucket, or set s3Bucket" in message


def test_a_server_that_is_not_there_is_named(stack, lab):
    """The connection is refused; the message says by which address."""
    stack.server.stop()
    try:
        message = failure_of(lab, request_of(stack))
    finally:
        stack.server.start(*stack.keys[-1])
    assert f"Cannot connect to host {lab.gateway}:{s3.PORT}" in message
    assert "check s3Endpoint, and that the workers' nodes reach it" in message


def everything_to_read(stack, lab, swarm):
    """Yield what somebody may read who is not to know the keys, by what it is."""
    yield "output of deployments", stack.printed
    yield "outputs", json.dumps(stack.deployment.runner.outputs(secrets=True))
    exported = stack.deployment.runner._call(["stack", "export", "--stack", "test"], capture=True)
    yield "state", exported.stdout
    for service in swarm.services.list():
        yield f"inspect {service.name}", json.dumps(service.attrs)
        logs = service.logs(stdout=True, stderr=True)
        yield f"log of {service.name}", b"".join(logs).decode(errors="replace")
    for kind in (swarm.secrets, swarm.configs):
        yield "secrets and configs", json.dumps([each.attrs for each in kind.list()])
    for node in lab.nodes:
        with closing(docker.DockerClient(node.docker_host)) as engine:
            containers = [each.attrs for each in engine.containers.list(all=True)]
            yield f"containers on {node.name}", json.dumps(containers)


def test_no_key_is_to_be_read_anywhere(stack, lab, swarm):
    """Neither any that there was: not by docker, in logs, in what is printed or in the state."""
    planted = [form for _, secret in stack.keys for form in forms(secret)]
    for what, text in everything_to_read(stack, lab, swarm):
        assert not any(form in text.encode() for form in planted), what
