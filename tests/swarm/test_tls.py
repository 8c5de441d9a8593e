"""Only programs with a certificate of the stack use the cluster; a new CA ends kernels' work only.

Networks are walls too: each reaches only the ports that are meant for it.
"""

import json
import os
import re
import socket
import subprocess
import sys
from contextlib import closing, contextmanager

import docker
import pytest
from docker import types

from bench.faults import container, kill_process, worker_process
from bench.under_computation import under_computation
from images.nanny_preload import EXPIRED
from tests.conftest import ROOT, free_port, wait_for
from tests.swarm.conftest import RUNNERS, task_ids
from tests.swarm.containers import containers_of, notebook_container, run_in
from tests.swarm.derived import that_reports_another_version
from tests.swarm.expiry import mounted, shorten

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
SERVICES = ("dask_scheduler", "dask_worker", "dask_notebook")
# The container's addresses, and the ports where anything in it listens.
LISTENING = """
import json, psutil, socket
parts = [part for parts in psutil.net_if_addrs().values() for part in parts]
hosts = [part.address for part in parts if part.family == socket.AF_INET]
ports = {made.laddr.port for made in psutil.net_connections("tcp") if made.status == "LISTEN"}
print(json.dumps([[host for host in hosts if host != "127.0.0.1"], sorted(ports)]))
"""
CONNECT = """
import socket, sys
from concurrent.futures import ThreadPoolExecutor

def is_open(target):
    host, _, port = target.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True

with ThreadPoolExecutor(32) as pool:
    answers = list(pool.map(is_open, sys.argv[1:]))
print("open", *[target for target, found in zip(sys.argv[1:], answers) if found])
"""
FROM_TASKS = """
import json, subprocess, sys
from distributed import Client

def connect(program, *targets):
    return subprocess.check_output([sys.executable, "-c", program, *targets], text=True)

with Client() as client:
    print(*client.run(connect, *json.loads(sys.argv[1])).values())
"""
LIFE_SECONDS = 40  # enough for the services to get the certificate
CONNECT_CLIENT = "from distributed import Client; Client(timeout=10); print('admitted')"
HINT = "`pulumi up` renews it"  # images/ipython/startup/client.py
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
    """It does not reach the scheduler, and has no certificate."""
    command = ["python", "-c", STRANGER, f"{scheme}://dask_scheduler:8786"]
    assert "refused" in run_on_caddys_network(swarm, images, command)


def run_on_caddys_network(swarm, images, command):
    """Run a command in a container that is on no other network, and return its answer."""
    service = swarm.services.create(
        images["image"],
        args=command,
        name="stranger",
        networks=["caddy-network"],
        restart_policy=types.RestartPolicy(condition="none"),
        constraints=["node.labels.role==master"],
    )
    try:
        wait_for("stranger's answer", lambda: answer_of(service), SECONDS)
        return answer_of(service)
    finally:
        service.remove()


def answer_of(service):
    """Return what a service has printed."""
    lines = b"".join(service.logs(stdout=True)).decode().splitlines()
    return "".join(line for line in lines if line.startswith(("refused", "admitted", "open")))


def test_caddys_network_reaches_dashboard_and_notebook_only(cluster, lab, swarm, images):
    """By every name and every address, on each port where a container listens."""
    names = [
        f"{prefix}{service}:{port}"
        for prefix in ("", "tasks.")
        for service, port in (("dask_scheduler", 8786), ("dask_scheduler", 8787))
    ]
    targets = [*names, "scheduler:8786", "dask_notebook:8888", "dask_worker:8789"]
    addresses = [port for service in SERVICES for port in listening(lab, service)]
    command = ["python", "-c", CONNECT, *targets, *addresses]
    opened = set(run_on_caddys_network(swarm, images, command).split()[1:])
    assert {"dask_scheduler:8787", "tasks.dask_scheduler:8787", "dask_notebook:8888"} < opened
    by_address = opened & set(addresses)
    assert {"8787", "8888"} == {port.rpartition(":")[2] for port in by_address}
    assert 2 == len(by_address)
    assert 5 == len(opened)


def test_tasks_do_not_reach_the_notebook(cluster, lab):
    """By its name or by any of its addresses."""
    addresses = listening(lab, "dask_notebook", port=8888)
    targets = ["dask_notebook:8888", "tasks.dask_notebook:8888", *addresses]
    with notebook_container(lab) as notebook:
        text = run_in(notebook, "python", "-c", FROM_TASKS, json.dumps([CONNECT, *targets]))
    assert ["open", "open"] == text.split()


def listening(lab, service, port=None):
    """Return each address and port (`host:port`) of a service's containers, loopbacks aside."""
    found = []
    for node in lab.nodes:
        with closing(docker.DockerClient(node.docker_host)) as engine:
            for container in containers_of(engine, service):
                hosts, ports = json.loads(run_in(container, "python", "-c", LISTENING))
                found += [f"{host}:{number}" for host in hosts for number in ports]
    return [target for target in found if port is None or target.endswith(f":{port}")]


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


class TestEndOfCertificates:
    def test_a_renewal_before_the_end_loses_no_work(self, cluster, swarm, lab):
        """Any `up` in the last 90 days renews the certificates of workers and clients."""
        shorten(cluster.runner, days=60)
        change_without_loss(cluster, swarm, lab)
        assert 364 == outputs(cluster)["health"]["certificates"]["workers"]["days"]

    def test_an_up_after_the_end_repairs_the_cluster(self, cluster, swarm, lab):
        """Until then, a notebook and the workers' log show what is wrong, and the fix."""
        with mounted(lab, swarm, shorten(cluster.runner, seconds=LIFE_SECONDS)):
            wait_for("end", lambda: HINT in connect_in_notebook(lab), LIFE_SECONDS + SECONDS)
            kill_process(lab, worker_process)
            wait_for("reason", lambda: EXPIRED in log_of_worker(lab), SECONDS)
            cluster.run("up")
        health = outputs(cluster)["health"]
        assert (2, 364) == (health["workers"], health["certificates"]["workers"]["days"])
        assert "admitted" in connect_in_notebook(lab)

    def test_an_up_after_a_failed_one_repairs_it_too(self, cluster, swarm, lab, images):
        """The rollback gives the services their expired certificates again."""
        image = that_reports_another_version(lab.docker_host, images["notebookImage"])
        with mounted(lab, swarm, shorten(cluster.runner, seconds=LIFE_SECONDS)):
            wait_for("end", lambda: HINT in connect_in_notebook(lab), LIFE_SECONDS + SECONDS)
            cluster.configure(workers=2, notebookImage=image)
            printed = cluster.fail("up")
            assert "expected one version of distributed everywhere" in printed
            assert "rolled back: " in printed
            wait_for("rollback", lambda: HINT in connect_in_notebook(lab), SECONDS)
            cluster.configure(workers=2)
            cluster.run("up")
        assert 2 == outputs(cluster)["health"]["workers"]
        assert "admitted" in connect_in_notebook(lab)


def change_without_loss(cluster, swarm, lab):
    """Run `up` during a computation, which must not notice it; the scheduler must stay."""
    before = task_ids(swarm)
    losses = under_computation(
        lab.docker_host, 2, 8, 8, lambda: cluster.run("up"), service="dask_scheduler"
    )
    assert losses["right"]
    assert (2, 0, 0) == tuple(losses[key] for key in ("workers", "lost_blocks", "repeated_tasks"))
    after = task_ids(swarm)
    assert {"dask_scheduler"} == {name for name in before if before[name] & after[name]}


def connect_in_notebook(lab):
    """Return what a user sees who opens a client in a notebook."""
    with notebook_container(lab) as notebook:
        return notebook.exec_run(["ipython", "-c", CONNECT_CLIENT]).output.decode()


def log_of_worker(lab):
    """Return what the worker has printed whose process `kill_process` kills."""
    with container(lab, "dask_worker") as worker:
        return worker.logs().decode()


class TestChangeOfCa:
    def test_the_next_ca_loses_no_work(self, cluster, swarm, lab):
        """Workers and notebook are replaced, the scheduler and its computation go on."""
        cluster.configure(workers=2, tlsCa=2)
        change_without_loss(cluster, swarm, lab)

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
