"""Only programs with a certificate of the stack use the cluster, and a new CA loses no work."""

import os
import re
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest
from docker import types

from bench.under_computation import under_computation
from tests.conftest import ROOT, free_port, wait_for
from tests.swarm.conftest import RUNNERS, task_ids
from tests.swarm.containers import notebook_container, run_in

SECONDS = 60
# A program without the stack's configuration, as in any container on the network.
STRANGER = """
import sys
from distributed import Client
try:
    Client(sys.argv[1], timeout=10).run_on_scheduler(lambda: None)
except Exception as error:
    print("refused:", type(error).__name__)
else:
    print("admitted")
"""
PLAIN = "from distributed import Client; Client('tcp://scheduler:8786', timeout=10)"
METRICS = """
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())
"""
LAPTOP = """
import sys
from distributed import Client
with Client(sys.argv[1], timeout="30s") as client:
    client.wait_for_workers(2, timeout=30)
    print(client.scheduler.address, client.submit(sum, [1, 2, 3]).result())
"""
WRITE = "import sys; open('/tmp/old.yaml', 'w').write(sys.argv[1])"


@pytest.fixture(scope="module", params=RUNNERS)
def cluster(request, deployed):
    """Return a small deployed cluster, which is destroyed afterwards."""
    with deployed(request.param, workers=2) as deployment:
        yield deployment


def outputs(cluster):
    """Return the stack's outputs."""
    return cluster.runner.outputs(secrets=True)


def test_the_proof_has_the_ends_of_the_certificates(cluster):
    """The scheduler's certificate lives longer, because a new scheduler loses all work."""
    proven = outputs(cluster)["health"]["certificates"]
    assert (3649, 364) == (proven["scheduler"]["days"], proven["workers"]["days"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", proven["workers"]["valid_until"])


@pytest.mark.parametrize("address", ["scheduler:8787", "dask_worker:8789"])
def test_the_metrics_have_the_days(cluster, lab, address):
    """The scheduler's and the workers'."""
    with notebook_container(lab) as notebook:
        text = run_in(notebook, "python", "-c", METRICS, f"http://{address}/metrics")
    (days,) = re.findall(r"^dask_certificate_days (.+)$", text, re.MULTILINE)
    assert 363 < float(days) < 3650


def test_plain_tcp_is_refused_with_the_reason(cluster, lab):
    """A user with an old address sees what is wrong."""
    with notebook_container(lab) as notebook:
        status, text = notebook.exec_run(["python", "-c", PLAIN])
    assert 1 == status
    assert "encryption required by Dask configuration" in text.decode()


@pytest.mark.parametrize("scheme", ["tcp", "tls"])
def test_a_container_on_caddys_network_is_refused(cluster, swarm, images, scheme):
    """It reaches the scheduler's port, but has no certificate."""
    service = swarm.services.create(
        images["image"],
        args=["python", "-c", STRANGER, f"{scheme}://dask_scheduler:8786"],
        name="stranger",
        networks=["caddy-network"],
        restart_policy=types.RestartPolicy(condition="none"),
        constraints=["node.labels.role==master"],
    )
    try:
        wait_for("stranger's answer", lambda: answer_of(service), SECONDS)
        assert "refused" in answer_of(service)
    finally:
        service.remove()


def answer_of(service):
    """Return what a service has printed."""
    lines = b"".join(service.logs(stdout=True)).decode().splitlines()
    return "".join(line for line in lines if line.startswith(("refused", "admitted")))


class TestFromALaptop:
    @pytest.fixture
    def config_file(self, cluster, tmp_path):
        """Return the file with the exported configuration."""
        file = tmp_path / "cluster.yaml"
        file.write_text(outputs(cluster)["client_config"])
        return file

    @contextmanager
    def tunnel(self, server):
        """Yield the local port of the tunnel in docs/work.md."""
        ssh = server.command("ssh", "-p", str(server.port), f"root@{server.host}")
        address = in_scheduler(ssh)
        port = free_port()
        forward = server.command("ssh", "-N", "-p", str(server.port))
        process = subprocess.Popen(
            [*forward, "-L", f"{port}:{address}:8786", f"root@{server.host}"]
        )
        try:
            wait_for("tunnel", lambda: is_open(port), SECONDS)
            yield port
        finally:
            process.terminate()
            process.wait(10)

    def test_a_client_computes_with_the_exported_certificate(
        self, cluster, control_host, config_file
    ):
        """Through SSH, with the documented commands."""
        with self.tunnel(control_host) as port:
            done = laptop(f"localhost:{port}", DASK_CONFIG=str(config_file))
        assert f"tls://localhost:{port} 6" == done.stdout.strip(), done.stderr


def in_scheduler(ssh):
    """Return the address of the scheduler's container on its node."""
    find = [*ssh, "docker", "ps", "--quiet", "--filter", "name=dask_scheduler"]
    container = subprocess.run(find, capture_output=True, check=True, text=True).stdout.strip()
    with (ROOT / "tools" / "address.py").open() as program:
        done = subprocess.run(
            [*ssh, "docker", "exec", "-i", container, "python", "-"],
            stdin=program, capture_output=True, check=True, text=True,
        )  # fmt: skip
    return done.stdout.strip()


def is_open(port):
    """Return whether a local port accepts connections."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def laptop(address, **variables):
    """Run a client on this machine."""
    return subprocess.run(
        [sys.executable, "-c", LAPTOP, address],
        env=os.environ | variables, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip


class TestChangeOfCa:
    def test_the_next_ca_loses_no_work(self, cluster, swarm, lab):
        """Workers and notebook are replaced, the scheduler and its computation go on."""
        before = task_ids(swarm)
        cluster.configure(workers=2, tlsCa=2)
        losses = under_computation(
            lab.docker_host, 2, 8, 8, lambda: cluster.run("up"), service="dask_scheduler"
        )
        assert losses["right"]
        assert (2, 0, 0) == tuple(
            losses[key] for key in ("workers", "lost_blocks", "repeated_tasks")
        )
        after = task_ids(swarm)
        assert {"dask_scheduler"} == {name for name in before if before[name] & after[name]}

    def test_the_old_ca_is_refused_after_the_schedulers_change(self, cluster, lab):
        """The proof has the new ends; a client with the old certificate is refused."""
        cluster.configure(workers=2)
        cluster.run("up")
        old = outputs(cluster)["client_config"]
        cluster.configure(workers=2, tlsCa=2, tlsSchedulerCa=2)
        cluster.run("up")
        assert 364 == outputs(cluster)["health"]["certificates"]["workers"]["days"]
        with notebook_container(lab) as notebook:
            run_in(notebook, "python", "-c", WRITE, old)
            environment = {"DASK_CONFIG": "/tmp/old.yaml"}
            command = ["python", "-c", STRANGER, "scheduler:8786"]
            assert b"refused" in notebook.exec_run(command, environment=environment).output
