"""How workers leave and come back: real nannies, workers and a scheduler, and real signals."""

import itertools
import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from urllib.request import urlopen

import dask
import distributed
import pytest
import yaml
from distributed.core import Status

from components import workers
from config.workloads import ResourceLimit
from images import nanny_preload, worker_preload
from tests.conftest import ROOT

NUMBERS = itertools.count()
PATIENCE = 30  # seconds for anything that is awaited
# Containers have no capabilities; this one lets root write to read-only files.
CONFINED = [] if os.geteuid() else ["setpriv", "--bounding-set", "-dac_override"]
CREDENTIALS = "[default]\naws_access_key_id=AKIAEXAMPLE\n"
LIMIT = ResourceLimit(cpus=Decimal("0.5"), memory_bytes=2**29)


def wait_for(what, look):
    """Return what `look` finds."""
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline, f"no {what} after {PATIENCE} s"
        time.sleep(0.05)
    return found


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
    with scheduler() as found:
        yield found


@pytest.fixture
def preloads(tmp_path):
    """Return a folder with the preloads; they wait less, as this machine is not a network."""
    changes = {
        workers.WORKER_PRELOAD: {
            "TAKER_SECONDS = 5": "1",
            "ANSWER_SECONDS = 10": "1",
            'S3_CREDENTIALS = Path("/run/secrets/s3_credentials")': f'Path("{tmp_path}/s3")',
        },
        workers.NANNY_PRELOAD: {
            "LIFE_SECONDS = 5": "1",
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
    path.write_text(yaml.safe_dump(workers.DASK_CONFIG))
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
        names = {each.name for each in started}
        wait_for("end of earlier tests", lambda: members(client).keys() <= names)
        new = [launch(client.scheduler.address, port) for _ in range(count)]
        started.extend(new)
        wait_for(f"{count} workers", lambda: {each.name for each in new} <= members(client).keys())
        # A nanny answers when it knows that its worker has started; before, its death ends both.
        client.run(os.getpid, workers=[members(client)[each.name] for each in new], nanny=True)
        return new

    return start_some


def members(client):
    """Return the addresses of the workers by name."""
    found = client.scheduler_info(n_workers=-1)["workers"]
    return {each["name"]: address for address, each in found.items()}


def worker_pid(client, process):
    """Return the process id of the worker of a nanny."""
    return client.run(os.getpid, workers=[members(client)[process.name]]).popitem()[1]


def busy(path, seconds):
    """Keep a worker busy and leave a line for each time that it was."""
    with path.open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(seconds)
    return seconds


def until(path):
    """Keep a worker busy until a file is there."""
    while not path.exists():
        time.sleep(0.05)


def stop(process):
    """Tell a nanny to stop and return its exit status."""
    process.send_signal(signal.SIGTERM)
    return process.wait(PATIENCE)


def stop_group(process):
    """Tell a process group to stop, as `tini -g` of the official images does."""
    os.killpg(process.pid, signal.SIGTERM)
    return process.wait(PATIENCE)


def lines(path):
    """Return the lines of a file that may not be there yet."""
    return path.read_text().splitlines() if path.exists() else []


def kill(pid):
    """Kill a process and return when it is gone."""
    os.kill(pid, signal.SIGKILL)
    wait_for("end", lambda: not runs(pid))


def runs(pid):
    """Tell whether a process runs; one that has ended may still be listed."""
    with suppress(FileNotFoundError):
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
    return False


def free_port():
    """Return a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def healthy(port):
    """Tell whether the health check of the container succeeds."""
    with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
        return 200 == answer.status
    return False


def test_the_grace_period_suffices():
    """The Swarm kills a worker only when it has given up by itself."""
    leave = worker_preload
    assert "1m" == workers.GRACE_PERIOD
    assert leave.DRAIN_SECONDS + leave.CLOSE_SECONDS < nanny_preload.LEAVE_SECONDS < 60
    assert leave.TAKER_SECONDS + leave.MOVING_SECONDS < leave.DRAIN_SECONDS
    assert leave.LEAVE == nanny_preload.LEAVE


@pytest.mark.parametrize("stop", [stop, stop_group])
def test_data_moves_running_tasks_finish_and_waiting_ones_go_elsewhere(
    client, start, tmp_path, stop
):
    """Nothing is lost and nothing runs twice, though all of it was on the worker that leaves."""
    leaving, other = start(client, 2)
    there, elsewhere = ([members(client)[each.name]] for each in (leaving, other))
    blocks = client.scatter([os.urandom(1000) for _ in range(8)], workers=there)
    runs, gone = tmp_path / "runs", tmp_path / "gone"
    # The other one is busy, so it does not steal.
    guard = client.submit(until, gone, workers=elsewhere)
    options = {"workers": there, "allow_other_workers": True, "pure": False}
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
    """Make a worker one whose memory is full, or no more."""
    dask_worker.periodic_callbacks["memory_monitor"].stop()
    dask_worker.status = Status[name]


def test_a_worker_that_is_paused_is_waited_for(client, start):
    """Its memory is full for as long as a computation needs, not for ever."""
    leaving, other = start(client, 2)
    there, elsewhere = ([members(client)[each.name]] for each in (leaving, other))
    blocks = client.scatter([os.urandom(1000) for _ in range(8)], workers=there)
    client.run(set_status, "paused", workers=elsewhere)
    leaving.send_signal(signal.SIGTERM)
    time.sleep(3)
    client.run(set_status, "running", workers=elsewhere)
    assert 0 == leaving.wait(PATIENCE)
    assert 8 == len({*client.gather(blocks)})


class Counter:
    """An actor."""


def test_data_moves_off_a_worker_with_an_actor(client, start):
    """The actor is lost, as Dask cannot move it; nothing else is."""
    leaving, _ = start(client, 2)
    there = [members(client)[leaving.name]]
    counter = client.submit(Counter, actor=True, workers=there)
    distributed.wait(counter)
    blocks = client.scatter([os.urandom(1000) for _ in range(8)], workers=there)
    assert 0 == stop(leaving)
    assert 8 == len({*client.gather(blocks)})
    assert "1 actors are lost" in leaving.log.read_text()


def test_a_second_signal_ends_it_at_once(client, start, tmp_path):
    """Whoever insists need not wait for the running task."""
    (worker,) = start(client)
    runs = tmp_path / "runs"
    task = client.submit(busy, runs, 3600, pure=False)
    wait_for("running task", lambda: lines(runs))
    worker.send_signal(signal.SIGTERM)
    wait_for("drain", lambda: "told to leave; handing over" in worker.log.read_text())
    assert 0 == stop(worker)
    assert "told to stop a second time" in worker.log.read_text()
    task.cancel()


def test_a_worker_without_anyone_to_take_its_data_gives_up_soon(client, start):
    """The last worker does not hold up the end of the cluster."""
    (worker,) = start(client)
    blocks = client.scatter([b"block"])
    assert 0 == stop(worker)
    assert "no other worker takes it" in worker.log.read_text()
    del blocks


def test_a_scheduler_that_does_not_answer_counts_as_lost(client, start):
    """A network that is cut does not cost the whole grace period."""
    (worker,) = start(client)
    blocked = client.submit(time.sleep, 3600, pure=False)
    client.run_on_scheduler(worker_stopped, worker.pid)
    assert 0 == worker.wait(PATIENCE)
    assert "ending: the scheduler does not answer" in worker.log.read_text()
    del blocked


def worker_stopped(pid):
    """Tell a worker to stop, and keep the scheduler's loop for longer than it waits."""
    os.kill(pid, signal.SIGTERM)
    time.sleep(3)


def test_a_worker_that_never_had_a_scheduler_ends_at_once(launch):
    """It has nothing to hand over and nobody to ask."""
    worker = launch("tcp://127.0.0.1:1")
    wait_for("start", lambda: "waiting for the scheduler" in worker.log.read_text())
    assert 0 == stop(worker)
    assert "told to stop without a worker" in worker.log.read_text()


def test_a_worker_that_dies_while_it_leaves_is_not_started_again(client, start, tmp_path):
    """It is to leave, and the Swarm waits for its container to end."""
    (worker,) = start(client)
    pid = worker_pid(client, worker)
    task = client.submit(busy, tmp_path / "runs", 3600, pure=False)
    wait_for("running task", lambda: lines(tmp_path / "runs"))
    worker.send_signal(signal.SIGTERM)
    wait_for("drain", lambda: "told to leave; handing over" in worker.log.read_text())
    kill(pid)
    assert 0 == worker.wait(PATIENCE)
    assert 1 == worker.log.read_text().count("Registered to")
    task.cancel()


def test_a_worker_that_dies_is_started_again_by_its_nanny(client, start):
    """Its container stays, with the address of its health check."""
    port = free_port()
    (worker,) = start(client, port=port)
    pid = worker_pid(client, worker)
    assert healthy(port)
    kill(pid)
    wait_for("worker", lambda: "Restarting worker" in worker.log.read_text())
    assert pid != client.submit(os.getpid, pure=False).result(PATIENCE)
    assert worker.pid == client.submit(os.getppid, pure=False).result(PATIENCE)
    assert healthy(port)


def started_by_task():
    """Start a process that outlives its task and has the worker's sockets."""
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=[3600])
    process.start()
    return process.pid


def test_what_a_worker_that_dies_has_started_ends_with_it(client, start):
    """Else it would keep memory, and the port of the health check."""
    port = free_port()
    (worker,) = start(client, port=port)
    child = client.submit(started_by_task, pure=False).result(PATIENCE)
    assert runs(child)
    kill(worker_pid(client, worker))
    wait_for("end", lambda: not runs(child))
    assert worker.pid == client.submit(os.getppid, pure=False).result(PATIENCE)
    assert healthy(port)


def status_of_a_process_that_is_terminated():
    """Start a process, end it by a signal and return its exit status."""
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=[3600])
    process.start()
    process.terminate()
    process.join(PATIENCE / 2)
    return process.exitcode


def test_a_task_ends_its_processes_by_a_signal(client, start):
    """It counts in them, and neither as the worker's nor as the nanny's."""
    (worker,) = start(client)
    task = client.submit(status_of_a_process_that_is_terminated, pure=False)
    assert -signal.SIGTERM == task.result(PATIENCE)
    assert worker.pid == client.submit(os.getppid, pure=False).result(PATIENCE)
    assert "told to" not in worker.log.read_text()


def environment(*names):
    """Return environment variables of this process, and of its nanny from its start on."""
    nanny = Path(f"/proc/{os.getppid()}/environ").read_text().split("\0")
    return {name: os.environ.get(name) for name in names}, nanny


def test_a_worker_has_the_environment_of_work_also_when_it_was_restarted(client, start, tmp_path):
    """The stack's variables count, then the command line's, Dask's own among them."""
    spill = "DASK_DISTRIBUTED__WORKER__MEMORY__SPILL"
    variables = {"TOKEN": "secret", "OMP_NUM_THREADS": "2", spill: "0.5"}
    (tmp_path / "variables").write_text(json.dumps(variables))
    start(client)
    for restart in (lambda: None, client.restart):
        restart()
        names = [*variables, *workers.ENVIRONMENT]
        found, nanny = client.submit(environment, *names, pure=False).result(PATIENCE)
        assert workers.ENVIRONMENT | variables == found
        config = client.submit(dask.config.get, "distributed.worker.memory", pure=False)
        assert 0.5 == config.result(PATIENCE)["spill"]
        assert {f"{name}={value}" for name, value in workers.ENVIRONMENT.items()} <= {*nanny}


def test_all_workers_have_the_same_hashes(client, start):
    """Dask groups bags by them: a key with two hashes would make two groups."""
    start(client, 2)
    assert 1 == len({*client.run(hash, "key").values()})


def test_a_variable_that_a_client_registers_counts_most(client, start, tmp_path):
    """`Environ` is newer than the stack, and also for workers that come later."""
    (tmp_path / "variables").write_text(json.dumps({"TOKEN": "secret"}))
    start(client)
    client.register_plugin(distributed.Environ({"TOKEN": "other"}), name="environ")
    start(client)
    try:
        assert ["other"] * 2 == [*client.run(os.getenv, "TOKEN").values()][-2:]
    finally:
        client.unregister_worker_plugin("environ", nanny=True)


def test_a_nanny_waits_for_its_scheduler_in_good_health(launch):
    """The Swarm does not replace a container that waits, which may be for long."""
    port, health = free_port(), free_port()
    worker = launch(f"tcp://127.0.0.1:{port}", health)
    wait_for("answer", lambda: healthy(health))
    with scheduler(port) as client:
        wait_for("worker", lambda: members(client))
        assert healthy(health)
        assert worker.poll() is None


def test_a_lost_scheduler_ends_a_worker_that_leaves(start, tmp_path):
    """There is nobody left to hand anything to."""
    runs = tmp_path / "runs"
    with scheduler() as client:
        (worker,) = start(client)
        task = client.submit(busy, runs, 3600, pure=False)
        wait_for("running task", lambda: lines(runs))
        worker.send_signal(signal.SIGTERM)
        wait_for("drain", lambda: "told to leave; handing over" in worker.log.read_text())
        del task
    assert 0 == worker.wait(PATIENCE)
    assert "starting anew" not in worker.log.read_text()


def test_a_worker_that_loses_its_scheduler_joins_the_next_one_as_the_same_process(start):
    """The task of the Swarm stays, and so does the container."""
    with scheduler() as client:
        (worker,) = start(client)
        port = int(client.scheduler.address.rpartition(":")[2])
    with scheduler(port) as client:
        wait_for("worker at the new scheduler", lambda: members(client))
        assert worker.poll() is None
        assert worker.pid == client.submit(os.getppid).result(PATIENCE)
        assert "starting anew" in worker.log.read_text()


def test_a_worker_that_loses_its_scheduler_ends_its_running_tasks(start, tmp_path):
    """Nobody wants their results any more, and they would hold up the next worker."""
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
ANEW = """
import asyncio, os, signal
from types import SimpleNamespace
from images import nanny_preload as preload

def execv(*_):
    {shortly_after}
    os._exit(1)

async def kill(timeout):
    pass

async def lose_the_scheduler():
    nanny = SimpleNamespace(pid=None, is_alive=lambda: False, kill=kill)
    preload.catch_stop(nanny)
    {shortly_before}
    await preload.start_anew(nanny)

os.execv, preload.started = execv, -preload.LIFE_SECONDS
asyncio.run(lose_the_scheduler())
"""


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [(STOP, "", 0), ("", STOP, -signal.SIGTERM), ("", "", 1)],
)
def test_a_stop_that_comes_with_the_loss_of_the_scheduler_is_not_lost(before, after, status):
    """Else the new process would wait for a scheduler until it is killed."""
    program = ANEW.format(shortly_before=before, shortly_after=after)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False, timeout=PATIENCE)
    assert status == done.returncode


def test_a_worker_that_joins_sends_its_s3_credentials_to_the_scheduler(start, preloads):
    """Before it is registered, so that no task needs keys that the scheduler does not have."""
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
