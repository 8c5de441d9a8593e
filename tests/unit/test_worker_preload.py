"""How a worker leaves, by real workers of a real scheduler: processes that get real signals."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import distributed
import pytest
from distributed.core import Status

from components import workers
from images import worker_preload as preload
from tests.conftest import ROOT

PATIENCE = 30  # seconds for anything that is awaited
SHORTER = {"TAKER_SECONDS = 5": "1", "ANSWER_SECONDS = 10": "1", "LIFE_SECONDS = 5": "1"}


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
def impatient(tmp_path):
    """Return a copy of the preload that waits less, because this machine is not a network."""
    text = workers.PRELOAD_SOURCE.read_text()
    for name, seconds in SHORTER.items():
        assert 1 == text.count(f"{name}  #")
        text = text.replace(name, f"{name.partition(' ')[0]} = {seconds}")
    path = tmp_path / "worker_preload.py"
    path.write_text(text)
    return path


@pytest.fixture
def launch(tmp_path, impatient):
    """Return a function that starts a worker as the program does, and kill all in the end."""
    started = []

    def launch_one(address):
        name = f"w{len(started)}"
        options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--name", name]
        place = ["--dashboard-address", ":0", "--local-directory", str(tmp_path)]
        command = [sys.executable, "-m", "distributed.cli.dask_worker", address, *options, *place]
        path = tmp_path / f"{name}.log"
        with path.open("w") as log:
            process = subprocess.Popen([*command, "--preload", str(impatient)], stderr=log)
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

    def start_some(client, count=1):
        before = len(members(client))
        started = [launch(client.scheduler.address) for _ in range(count)]
        wait_for(f"{count} workers", lambda: len(members(client)) == before + count)
        return started

    return start_some


def members(client):
    """Return the addresses of the workers by name."""
    found = client.scheduler_info(n_workers=-1)["workers"]
    return {each["name"]: address for address, each in found.items()}


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
    """Tell a worker to stop and return its exit status."""
    process.send_signal(signal.SIGTERM)
    return process.wait(PATIENCE)


def lines(path):
    """Return the lines of a file that may not be there yet."""
    return path.read_text().splitlines() if path.exists() else []


def test_the_grace_period_suffices():
    """The Swarm kills a worker only when it has given up by itself."""
    longest = preload.DRAIN_SECONDS + preload.CLOSE_SECONDS
    assert "1m" == workers.GRACE_PERIOD
    assert longest < 60
    assert preload.TAKER_SECONDS + preload.MOVING_SECONDS < preload.DRAIN_SECONDS


def test_data_moves_running_tasks_finish_and_waiting_ones_go_elsewhere(client, start, tmp_path):
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
    assert 0 == stop(leaving)
    assert [str(leaving.pid)] == lines(runs)
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
    wait_for("drain", lambda: "told to stop; handing over" in worker.log.read_text())
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
    wait_for("start", lambda: "Waiting to connect to" in worker.log.read_text())
    assert 0 == stop(worker)
    assert "told to stop without a scheduler" in worker.log.read_text()


def test_a_lost_scheduler_ends_a_worker_that_leaves(start, tmp_path):
    """There is nobody left to hand anything to."""
    runs = tmp_path / "runs"
    with scheduler() as client:
        (worker,) = start(client)
        task = client.submit(busy, runs, 3600, pure=False)
        wait_for("running task", lambda: lines(runs))
        worker.send_signal(signal.SIGTERM)
        wait_for("drain", lambda: "told to stop; handing over" in worker.log.read_text())
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
        assert worker.pid == client.submit(os.getpid).result(PATIENCE)
        assert "starting anew" in worker.log.read_text()


STOP = "os.kill(os.getpid(), signal.SIGTERM)"
ANEW = """
import asyncio, os, signal
from types import SimpleNamespace
from images import worker_preload as preload

def execv(*_):
    {shortly_after}
    os._exit(1)

async def lose_the_scheduler():
    loop, worker = asyncio.get_running_loop(), SimpleNamespace(status="closing")
    loop.add_signal_handler(signal.SIGTERM, preload.told_to_stop, worker)
    {shortly_before}
    await preload.start_anew()

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
