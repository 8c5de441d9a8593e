"""Workers leave and rejoin: with real nannies, workers, schedulers and signals."""

import asyncio
import itertools
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from urllib.request import urlopen

import dask
import distributed
import pytest
import yaml
from distributed.core import Status
from distributed.security import Security

from components import certificates, workers
from components.dask_config import render
from config.workloads import ResourceLimit
from images import nanny_preload, worker_preload
from tests.certificates import Authority
from tests.conftest import ROOT, free_port, wait_for

NUMBERS = itertools.count()
SECONDS = 30  # the longest wait for anything
# Like a container, without the capability that lets root write to read-only files.
CONFINED = [] if os.geteuid() else ["setpriv", "--bounding-set", "-dac_override"]
CREDENTIALS = "[default]\naws_access_key_id=AKIAEXAMPLE\n"
LIFE_SECONDS = 10  # of a certificate, for the start of two workers
LIMIT = ResourceLimit(cpus=Decimal("0.5"), memory_bytes=2**29)


@contextmanager
def scheduler(port=0):
    """Run a scheduler of this process and yield a client of it."""
    with (
        distributed.LocalCluster(
            n_workers=0,
            processes=False,
            protocol="tcp",
            host="127.0.0.1",
            scheduler_port=port,
            dashboard_address=":0",
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def client():
    """Return a client of the scheduler that most tests share."""
    with scheduler() as client:
        yield client


@pytest.fixture
def preloads(tmp_path):
    """Return a folder with the preloads, with shorter waits than on a network."""
    changes = {
        workers.WORKER_PRELOAD: {
            "RECEIVER_SECONDS = 5": "1",
            "ANSWER_SECONDS = 10": "1",
            'S3_CREDENTIALS = Path("/run/secrets/s3_credentials")': f'Path("{tmp_path}/s3")',
        },
        workers.NANNY_PRELOAD: {
            "MIN_LIFE_SECONDS = 5": "1",
            'ENVIRONMENT = Path("/run/secrets/dask_environment")': f'Path("{tmp_path}/variables")',
        },
    }
    for file, replaced in changes.items():
        text = (workers.PRELOADS / file).read_text()
        for line, value in replaced.items():
            assert 1 == text.count(f"{line}  #")
            text = text.replace(line, f"{line.partition(' ')[0]} = {value}")
        (tmp_path / file).write_text(text)
        (tmp_path / file).chmod(0o444)  # as the Swarm mounts it
    return tmp_path


@pytest.fixture
def dask_config(tmp_path):
    """Return the file with the workers' configuration of Dask."""
    path = tmp_path / "dask.yaml"
    path.write_text(yaml.safe_dump(workers.dask_config(LIMIT)))
    return path


@pytest.fixture
def launch(tmp_path, preloads, dask_config):
    """Return a function that starts a nanny as the program does, and kill all in the end."""
    started = []

    def launch_one(address, port=0):
        name = f"w{next(NUMBERS)}"
        program = " ".join(workers.worker_args(address, 1, LIMIT))
        program = program.replace(workers.PRELOAD_TARGET, str(preloads))
        program = program.replace(f":{workers.HTTP_PORT}", f":{port}")
        program = program.replace(
            " dask worker", f" {sys.executable} -m distributed.cli.dask_worker"
        )
        path = tmp_path / f"{name}.log"
        with path.open("w") as log:
            process = subprocess.Popen(
                [
                    *CONFINED,
                    *program.split(),
                    "--name",
                    name,
                    "--local-directory",
                    str(tmp_path / name),
                ],
                stderr=log,
                env=os.environ | {"DASK_CONFIG": str(dask_config)},
                start_new_session=True,
            )
        process.log, process.name = path, name
        started.append(process)
        return process

    yield launch_one
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def start(launch):
    """Return a function that starts workers and waits until the scheduler has them."""

    started = []

    def start_some(client, count=1, port=0):
        names = {process.name for process in started}
        wait_for("end of earlier tests", lambda: members(client).keys() <= names)
        new = [launch(client.scheduler.address, port) for _ in range(count)]
        started.extend(new)
        names = {process.name for process in new}

        def joined():
            known = members(client)
            return [known[name] for name in names] if names <= known.keys() else []

        addresses = wait_for(f"{count} workers", joined)
        # A nanny answers once it knows that its worker has started. Before that, the death of the
        # worker ends the nanny too.
        client.run(os.getpid, workers=addresses, nanny=True)
        return new

    return start_some


def members(client):
    """Return the addresses of the workers by name."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return {info["name"]: address for address, info in workers.items()}


def worker_pid(client, process):
    """Return the process id of a nanny's worker."""
    return client.run(os.getpid, workers=[members(client)[process.name]]).popitem()[1]


def busy(path, seconds):
    """Keep a worker busy, and add a line to a file for each run."""
    with path.open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(seconds)
    return seconds


def until(path):
    """Keep a worker busy until a file exists."""
    while not path.exists():
        time.sleep(0.05)


def stop(process):
    """Send a nanny the stop signal and return its exit status."""
    process.send_signal(signal.SIGTERM)
    return process.wait(SECONDS)


def stop_group(process):
    """Send the stop signal to a process group, as `tini -g` of the official images does."""
    os.killpg(process.pid, signal.SIGTERM)
    return process.wait(SECONDS)


def lines(path):
    """Return the lines of a file, none if it does not exist yet."""
    return path.read_text().splitlines() if path.exists() else []


def kill(pid):
    """Kill a process and wait for its end."""
    os.kill(pid, signal.SIGKILL)
    wait_for("end", lambda: not runs(pid))


def runs(pid):
    """Return whether a process runs; an ended process may still be listed as a zombie."""
    with suppress(FileNotFoundError):
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
    return False


def healthy(port):
    """Return whether the container's health check succeeds."""
    with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
        return 200 == answer.status
    return False


def test_the_grace_period_suffices():
    """A worker ends by itself before Swarm kills it."""
    leave = worker_preload
    assert "1m" == workers.GRACE_PERIOD
    assert leave.DRAIN_SECONDS + leave.CLOSE_SECONDS < nanny_preload.LEAVE_SECONDS < 60
    assert leave.RECEIVER_SECONDS + leave.MOVING_SECONDS < leave.DRAIN_SECONDS
    assert leave.LEAVE == nanny_preload.LEAVE


def test_the_nanny_looks_at_the_memory_often():
    """At Dask's pace, every 100 ms, the kernel ends the container first in half of the cases."""
    monitor = SimpleNamespace(callback_time=100)
    nanny_preload.watch_memory_closely(
        SimpleNamespace(periodic_callbacks={"memory_monitor": monitor})
    )
    assert monitor.callback_time <= 20


@pytest.mark.parametrize("stop", [stop, stop_group])
def test_data_moves_running_tasks_finish_and_waiting_ones_go_elsewhere(
    client, start, tmp_path, stop
):
    """No data is lost and no task runs twice, although all were on the leaving worker."""
    leaving, other = start(client, 2)
    on_leaving, on_other = ([members(client)[worker.name]] for worker in (leaving, other))
    blocks = client.scatter([os.urandom(1000) for _ in range(8)], workers=on_leaving)
    runs, gone = tmp_path / "runs", tmp_path / "gone"
    # The other worker is busy, so that it does not steal tasks.
    guard = client.submit(until, gone, workers=on_other)
    options = {"workers": on_leaving, "allow_other_workers": True, "pure": False}
    tasks = [client.submit(busy, runs, 1, **options) for _ in range(4)]
    wait_for("running task", lambda: lines(runs))
    pid = worker_pid(client, leaving)
    assert 0 == stop(leaving)
    assert [str(pid)] == lines(runs)
    gone.touch()
    assert 8 == len({*client.gather(blocks)})
    assert [1] * 4 == client.gather(tasks)
    assert 4 == len(lines(runs))
    assert re.search(r"handed everything over in \d+\.\d s", leaving.log.read_text())
    del guard


def set_status(name, dask_worker):
    """Set a worker's status, such as that of a worker whose memory is full."""
    dask_worker.periodic_callbacks["memory_monitor"].stop()
    dask_worker.status = Status[name]


def test_a_worker_that_is_paused_is_waited_for(client, start):
    """A paused worker can accept the data as soon as its memory is free again."""
    leaving, other = start(client, 2)
    on_leaving, on_other = ([members(client)[worker.name]] for worker in (leaving, other))
    blocks = client.scatter([os.urandom(1000) for _ in range(8)], workers=on_leaving)
    client.run(set_status, "paused", workers=on_other)
    leaving.send_signal(signal.SIGTERM)
    time.sleep(3)
    client.run(set_status, "running", workers=on_other)
    assert 0 == leaving.wait(SECONDS)
    assert 8 == len({*client.gather(blocks)})


class Counter:
    """An actor."""


def test_data_moves_off_a_worker_with_an_actor(client, start):
    """Only the actor is lost, because Dask cannot move actors."""
    leaving, _ = start(client, 2)
    on_leaving = [members(client)[leaving.name]]
    counter = client.submit(Counter, actor=True, workers=on_leaving)
    distributed.wait(counter)
    blocks = client.scatter([os.urandom(1000) for _ in range(8)], workers=on_leaving)
    assert 0 == stop(leaving)
    assert 8 == len({*client.gather(blocks)})
    assert "1 actors are lost" in leaving.log.read_text()


def test_a_second_signal_ends_it_at_once(client, start, tmp_path):
    """A user who sends a second signal does not wait for the running task."""
    (worker,) = start(client)
    runs = tmp_path / "runs"
    task = client.submit(busy, runs, 3600, pure=False)
    wait_for("running task", lambda: lines(runs))
    worker.send_signal(signal.SIGTERM)
    wait_for("drain", lambda: "leave signal: handing over" in worker.log.read_text())
    assert 0 == stop(worker)
    assert "second stop signal" in worker.log.read_text()
    task.cancel()


def test_a_worker_without_anyone_to_take_its_data_gives_up_soon(client, start):
    """The last worker does not delay the end of the cluster."""
    (worker,) = start(client)
    blocks = client.scatter([b"block"])
    assert 0 == stop(worker)
    assert "no other worker accepts the data" in worker.log.read_text()
    del blocks


@pytest.mark.parametrize("signals", [1, 2])
def test_spilled_data_goes_with_its_worker(client, start, tmp_path, signals):
    """Swarm keeps an ended container with its files, and these may be many GiB."""
    (worker,) = start(client)
    block = client.submit(bytes, 2**20, pure=False, workers=members(client)[worker.name])
    distributed.wait([block])
    client.run(lambda dask_worker: dask_worker.data.evict())
    folder = tmp_path / worker.name
    assert [*folder.rglob("storage/*")]
    for _ in range(signals):
        worker.send_signal(signal.SIGTERM)
        wait_for("drain", lambda: "leave signal: handing over" in worker.log.read_text())
    assert 0 == worker.wait(SECONDS)
    assert not [*folder.rglob("worker-*/")]
    del block


def test_a_scheduler_that_does_not_answer_counts_as_lost(client, start):
    """A lost network does not cost the whole grace period."""
    (worker,) = start(client)
    blocked = client.submit(time.sleep, 3600, pure=False)
    client.run_on_scheduler(stop_worker_and_block, worker.pid)
    assert 0 == worker.wait(SECONDS)
    assert "ending: the scheduler does not answer" in worker.log.read_text()
    del blocked


def stop_worker_and_block(pid):
    """Stop a worker, and block the scheduler's loop for longer than the worker waits."""
    os.kill(pid, signal.SIGTERM)
    time.sleep(3)


def test_a_worker_that_never_had_a_scheduler_ends_at_once(launch):
    """It has nothing to hand over."""
    worker = launch("tcp://127.0.0.1:1")
    wait_for("start", lambda: "waiting for the scheduler" in worker.log.read_text())
    assert 0 == stop(worker)
    assert "stop signal without a worker" in worker.log.read_text()


def test_a_worker_that_dies_while_it_leaves_is_not_started_again(client, start, tmp_path):
    """Its container has to end, and Swarm waits for that."""
    (worker,) = start(client)
    pid = worker_pid(client, worker)
    task = client.submit(busy, tmp_path / "runs", 3600, pure=False)
    wait_for("running task", lambda: lines(tmp_path / "runs"))
    worker.send_signal(signal.SIGTERM)
    wait_for("drain", lambda: "leave signal: handing over" in worker.log.read_text())
    kill(pid)
    assert 0 == worker.wait(SECONDS)
    assert 1 == worker.log.read_text().count("Registered to")
    task.cancel()


def test_a_worker_that_dies_is_started_again_by_its_nanny(client, start):
    """The container stays, with the port of its health check."""
    port = free_port()
    (worker,) = start(client, port=port)
    pid = worker_pid(client, worker)
    assert healthy(port)
    kill(pid)
    wait_for("worker", lambda: "Restarting worker" in worker.log.read_text())
    assert pid != client.submit(os.getpid, pure=False).result(SECONDS)
    assert worker.pid == client.submit(os.getppid, pure=False).result(SECONDS)
    assert healthy(port)


def start_process():
    """Start a process that outlives its task and inherits the worker's sockets."""
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=[3600])
    process.start()
    return process.pid


def test_what_a_worker_that_dies_has_started_ends_with_it(client, start):
    """Otherwise it would keep memory and the port of the health check."""
    port = free_port()
    (worker,) = start(client, port=port)
    child = client.submit(start_process, pure=False).result(SECONDS)
    assert runs(child)
    kill(worker_pid(client, worker))
    wait_for("end", lambda: not runs(child))
    assert worker.pid == client.submit(os.getppid, pure=False).result(SECONDS)
    assert healthy(port)


def status_of_terminated_process():
    """Start a process, end it by a signal and return its exit status."""
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=[3600])
    process.start()
    process.terminate()
    process.join(SECONDS / 2)
    return process.exitcode


def test_a_task_ends_its_processes_by_a_signal(client, start):
    """The signal ends the process, and reaches neither the worker nor the nanny."""
    (worker,) = start(client)
    task = client.submit(status_of_terminated_process, pure=False)
    assert -signal.SIGTERM == task.result(SECONDS)
    assert worker.pid == client.submit(os.getppid, pure=False).result(SECONDS)
    log = worker.log.read_text()
    assert "stop signal" not in log
    assert "leave signal" not in log


def environment(*names):
    """Return variables of this process, and all variables that its nanny was started with."""
    nanny = Path(f"/proc/{os.getppid()}/environ").read_text().split("\0")
    return {name: os.environ.get(name) for name in names}, nanny


def test_a_worker_has_the_stacks_environment_after_a_restart_too(client, start, tmp_path):
    """The stack's variables override those of the command line, and Dask reads them."""
    spill = "DASK_DISTRIBUTED__WORKER__MEMORY__SPILL"
    variables = {"TOKEN": "secret", "OMP_NUM_THREADS": "2", spill: "0.5"}
    (tmp_path / "variables").write_text(json.dumps(variables))
    start(client)
    for restart in (lambda: None, client.restart):
        restart()
        names = [*variables, *workers.ENVIRONMENT]
        own, nanny = client.submit(environment, *names, pure=False).result(SECONDS)
        assert workers.ENVIRONMENT | variables == own
        config = client.submit(dask.config.get, "distributed.worker.memory", pure=False)
        assert 0.5 == config.result(SECONDS)["spill"]
        assert {f"{name}={value}" for name, value in workers.ENVIRONMENT.items()} <= {*nanny}


def test_all_workers_have_the_same_hashes(client, start):
    """Dask groups bags by hash: a key with two hashes would make two groups."""
    start(client, 2)
    assert 1 == len({*client.run(hash, "key").values()})


def test_a_variable_that_a_client_registers_overrides_the_stacks(client, start, tmp_path):
    """`Environ` also sets the variables of workers that join later."""
    (tmp_path / "variables").write_text(json.dumps({"TOKEN": "secret"}))
    start(client)
    client.register_plugin(distributed.Environ({"TOKEN": "other"}), name="environ")
    start(client)
    try:
        assert ["other"] * 2 == [*client.run(os.getenv, "TOKEN").values()][-2:]
    finally:
        client.unregister_worker_plugin("environ", nanny=True)


def test_a_nanny_that_waits_for_its_scheduler_is_healthy(launch):
    """Swarm does not replace the container, however long the nanny waits."""
    port, health = free_port(), free_port()
    worker = launch(f"tcp://127.0.0.1:{port}", health)
    wait_for("answer", lambda: healthy(health))
    with scheduler(port) as client:
        wait_for("worker", lambda: members(client))
        assert healthy(health)
        assert worker.poll() is None


def test_a_lost_scheduler_ends_a_worker_that_leaves(start, tmp_path):
    """The worker cannot hand over its data without a scheduler."""
    runs = tmp_path / "runs"
    with scheduler() as client:
        (worker,) = start(client)
        task = client.submit(busy, runs, 3600, pure=False)
        wait_for("running task", lambda: lines(runs))
        worker.send_signal(signal.SIGTERM)
        wait_for("drain", lambda: "leave signal: handing over" in worker.log.read_text())
        del task
    assert 0 == worker.wait(SECONDS)
    assert "restarting the nanny" not in worker.log.read_text()


def test_a_worker_that_loses_its_scheduler_joins_the_next_one_as_the_same_process(start):
    """The Swarm task and the container stay."""
    with scheduler() as client:
        (worker,) = start(client)
        port = int(client.scheduler.address.rpartition(":")[2])
    with scheduler(port) as client:
        wait_for("worker at the new scheduler", lambda: members(client))
        assert worker.poll() is None
        assert worker.pid == client.submit(os.getppid).result(SECONDS)
        assert "restarting the nanny" in worker.log.read_text()


def test_a_worker_that_loses_its_scheduler_ends_its_running_tasks(start, tmp_path):
    """Their results are of no use, and they would delay the next worker."""
    runs = tmp_path / "runs"
    with scheduler() as client:
        start(client)
        port = int(client.scheduler.address.rpartition(":")[2])
        task = client.submit(busy, runs, 3600, pure=False)
        wait_for("running task", lambda: lines(runs))
        del task
    with scheduler(port) as client:
        wait_for("worker at the new scheduler", lambda: members(client))


STOP = "os.kill(os.getpid(), signal.SIGTERM)"
RESTART = """
import asyncio, os, signal
from types import SimpleNamespace
from images import nanny_preload as preload

def execv(*_):
    {shortly_after}
    os._exit(1)

async def kill(timeout):
    pass

async def lose_the_scheduler():
    nanny = SimpleNamespace(pid=None, worker_dir=None, is_alive=lambda: False, kill=kill)
    preload.catch_stop(nanny)
    {shortly_before}
    await preload.restart_in_place(nanny)

os.execv, preload.started = execv, -preload.MIN_LIFE_SECONDS
asyncio.run(lose_the_scheduler())
"""


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [(STOP, "", 0), ("", STOP, -signal.SIGTERM), ("", "", 1)],
)
def test_a_stop_that_comes_with_the_loss_of_the_scheduler_is_not_lost(before, after, status):
    """Otherwise the new process would wait for a scheduler until it is killed."""
    program = RESTART.format(shortly_before=before, shortly_after=after)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False, timeout=SECONDS)
    assert status == done.returncode


def test_a_worker_that_joins_sends_its_s3_credentials_to_the_scheduler(start, preloads):
    """It does so before it registers, so that no task runs without the scheduler's keys."""
    (preloads / "s3").write_text(CREDENTIALS)
    received = []
    with scheduler() as client:
        known = client.cluster.scheduler.workers
        client.cluster.scheduler.handlers["store_s3_credentials"] = lambda text: received.append(
            (text, len(known))
        )
        start(client)
        start(client)
    assert [(CREDENTIALS, 0), (CREDENTIALS, 1)] == received


class TestExpiredCertificate:
    """Workers whose certificate ends after a few seconds, and a scheduler that goes on."""

    @pytest.fixture
    def client(self, dask_config, tmp_path):
        """Return a client of the scheduler."""
        authority = Authority("ours")
        valid = authority.issue(tmp_path / "valid.pem")
        self.end = time.time() + LIFE_SECONDS
        short = authority.issue(tmp_path / "short.pem", hours=LIFE_SECONDS / 3600)
        comm = certificates.dask_config(authority.pem, short)
        dask_config.write_text(render(workers.dask_config(LIMIT), comm))
        roles = ("scheduler", "client")
        names = [f"tls_{role}_{part}" for role in roles for part in ("cert", "key")]
        security = Security(tls_ca_file=authority.pem, **dict.fromkeys(names, valid))
        with (
            distributed.LocalCluster(
                n_workers=0, protocol="tls", security=security, dashboard_address=":0"
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client

    def wait_until_expired(self):
        """Return after the end of the certificate."""
        time.sleep(max(0, self.end + 1 - time.time()))

    def test_a_worker_that_dies_names_the_fix(self, client, start):
        """Until then it keeps its connection. Its nanny waits for another container."""
        (worker,) = start(client)
        assert 3 == client.submit(sum, [1, 2]).result(SECONDS)
        pid = worker_pid(client, worker)
        self.wait_until_expired()
        assert 5 == client.submit(sum, [2, 3]).result(SECONDS)
        kill(pid)
        wait_for("reason", lambda: "has expired. Fix: pulumi up" in worker.log.read_text())
        assert 1 == worker.log.read_text().count("Waiting to connect")
        assert worker.poll() is None

    def test_a_worker_that_leaves_does_not_wait_for_its_results(self, client, start):
        """No worker can take them, and the repair must not wait a minute for each worker."""
        leaving, _ = start(client, 2)
        client.run(open_connections)
        blocks = client.scatter([b"block"], workers=[members(client)[leaving.name]])
        self.wait_until_expired()
        assert 0 == stop(leaving)
        assert "its certificate has expired, so no worker can take" in leaving.log.read_text()
        del blocks


class TestClocks:
    """Certificates that are not valid yet on one of the nodes, and a real scheduler."""

    @pytest.fixture
    def accepted(self, tmp_path, monkeypatch):
        """Return a function that returns a nanny's answer and its warnings.

        The certificates begin that many seconds from now.
        """
        authority = Authority("ours")
        monkeypatch.setattr(nanny_preload, "REFUSED_SECONDS", 0)

        def security(role, ahead):
            file = authority.issue(tmp_path / f"{role}.pem", ahead=ahead)
            names = {f"tls_{role}_{part}": file for part in ("cert", "key")}
            return Security(tls_ca_file=authority.pem, require_encryption=True, **names)

        async def answer(scheduler_ahead, worker_ahead, ask):
            async with distributed.Scheduler(
                protocol="tls",
                host="127.0.0.1",
                dashboard_address=":0",
                security=security("scheduler", scheduler_ahead),
            ) as scheduler:
                own = security("worker", worker_ahead)
                nanny = SimpleNamespace(
                    scheduler_addr=scheduler.address,
                    security=own,
                    connection_args=own.get_connection_args("worker"),
                    worker_kwargs={"dashboard_address": ":0"},
                )
                return await ask(nanny)

        def accepted(*ahead, ask=nanny_preload.accepted_from):
            warnings = []
            monkeypatch.setattr(nanny_preload, "warn_once", warnings.append)
            return asyncio.run(answer(*ahead, ask)), warnings

        return accepted

    def test_valid_certificates_are_accepted(self, accepted):
        """Without a warning."""
        assert ("127.0.0.1", []) == accepted(0, 0)

    def test_a_worker_waits_for_its_own_certificate(self, accepted):
        """It would refuse the other workers, which have certificates of the same time."""
        address, warnings = accepted(0, 3, ask=nanny_preload.wait_for_scheduler)
        assert "127.0.0.1" == address
        text = (
            "the certificate of this worker is not valid yet: the clock of the worker's node is "
            "behind. Fix: sudo timedatectl set-ntp true there"
        )
        assert {text} == {*warnings}

    def test_the_schedulers_certificate_shows_the_clock_of_the_workers_node(self, accepted):
        """OpenSSL's own reason is not in the error's text."""
        address, (warning,) = accepted(600, 0)
        assert "" == address
        assert ": its certificate is not valid yet: the clock of the worker's node is" in warning

    def test_a_refusal_shows_the_clock_of_the_schedulers_node(self, accepted):
        """The worker has waited until its certificate is valid by the clock of its own node."""
        address, (warning,) = accepted(0, 600)
        assert "" == address
        assert ": it refuses the certificate of this worker, which is not valid yet" in warning
        assert "the clock of the scheduler's node is behind" in warning


async def open_connections(dask_worker):
    """Open more than one connection to the scheduler, which the worker keeps."""
    await asyncio.gather(*(dask_worker.scheduler.identity() for _ in range(4)))


@pytest.mark.parametrize(("ip", "restarts"), [("10.0.1.7", 0), ("10.0.9.7", 1)])
def test_worker_and_nanny_listen_on_the_schedulers_network(monkeypatch, ip, restarts):
    """A nanny on another network restarts; the worker gets the address that reaches it."""
    nanny, reasons = SimpleNamespace(ip=ip, worker_kwargs={"host": None}), []

    async def restart(_, reason):
        reasons.append(reason)

    monkeypatch.setattr(nanny_preload, "restart_in_place", restart)
    asyncio.run(nanny_preload.stay_on_schedulers_network(nanny, "10.0.1.7"))
    assert "10.0.1.7" == nanny.worker_kwargs["host"]
    assert ["10.0.9.7 is not on the scheduler's network"] * restarts == reasons


def test_the_address_is_that_of_a_connection_to_the_scheduler(client):
    """A name server may answer differently the next time."""
    nanny = SimpleNamespace(scheduler_addr=client.scheduler.address, connection_args={})
    assert "127.0.0.1" == asyncio.run(nanny_preload.accepted_from(nanny))
    nanny.scheduler_addr = f"tcp://127.0.0.1:{free_port()}"
    assert "" == asyncio.run(nanny_preload.accepted_from(nanny))


def test_the_old_and_the_new_scheduler_must_accept(client, monkeypatch):
    """The nanny's own connection goes to either; the old scheduler may have other certificates."""
    port = client.scheduler.address.rpartition(":")[2]
    nanny = SimpleNamespace(scheduler_addr=f"tcp://scheduler:{port}", connection_args={})
    for hosts, address in ((["127.0.0.1"], "127.0.0.1"), (["127.0.0.1", "127.0.0.2"], "")):
        answers = [(0, 0, 0, "", (host, int(port))) for host in hosts]

        async def getaddrinfo(*_, answers=answers, **__):
            return answers

        monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
        assert address == asyncio.run(nanny_preload.accepted_from(nanny))
