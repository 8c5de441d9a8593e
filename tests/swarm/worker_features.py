"""Features of Dask for workers with a nanny, each as a function of a client.

Sent as text: `python -c <this file> <function>` in the notebook's container.
"""

import importlib
import logging
import multiprocessing
import os
import sys
import zipfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import dask.bag
from dask.distributed import Client, Environ, KilledWorker, PipInstall, UploadDirectory

WORKERS = 4
SECONDS = 60  # for each step


def workers(client):
    """Wait for all workers and return their addresses."""
    client.wait_for_workers(WORKERS, timeout=SECONDS)
    return {*client.scheduler_info(n_workers=-1)["workers"]}


def everywhere(client, function, *arguments):
    """Return the results of a function on all workers."""
    answers = client.run(function, *arguments)
    assert len(workers(client)) == len(answers)
    return {*answers.values()}


def environ(client):
    client.register_plugin(Environ({"COLOUR": "red"}))
    assert {"red"} == everywhere(client, os.getenv, "COLOUR")


def variables(client):
    assert {"of-the-stack"} == everywhere(client, os.getenv, "TOKEN")


def answer_of(module):
    return importlib.import_module(module).ANSWER


def upload_directory(client):
    folder = Path("/tmp/uploaded")
    folder.mkdir(exist_ok=True)
    (folder / "tried_folder.py").write_text("ANSWER = 42")
    plugin = UploadDirectory(folder, update_path=True, restart_workers=True)
    client.register_plugin(plugin)
    assert {42} == everywhere(client, answer_of, "tried_folder")


def write_wheel(path):
    """Write a wheel, so that pip needs no index."""
    name, version, _ = Path(path).name.split("-", 2)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", "ANSWER = 42")
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        wheel.writestr(f"{info}/METADATA", metadata)
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{info}/WHEEL", tags)
        wheel.writestr(f"{info}/RECORD", "")


def pip_install(client, *, restart=False):
    name = "tried_with_restart" if restart else "tried_without"
    wheel = f"/tmp/{name}-1.0-py3-none-any.whl"
    client.run_on_scheduler(write_wheel, wheel)
    client.run(write_wheel, wheel)
    before = workers(client)
    client.register_plugin(PipInstall([wheel], ["--no-index"], restart_workers=restart))
    assert {42} == everywhere(client, answer_of, name)
    assert restart == (not before & workers(client))


def pip_install_with_restart(client):
    pip_install(client, restart=True)


def restart(client):
    before = workers(client)
    client.restart(timeout=SECONDS)
    assert not before & workers(client)


def restart_workers(client):
    one, *others = workers(client)
    client.restart_workers([one], timeout=SECONDS)
    assert {*others} == workers(client) & {one, *others}


def fails_as_killed(client, task, *arguments):
    """Run a task that kills its workers, and check that the error names the task."""
    key = f"tried-{task.__name__}"
    error = client.submit(task, *arguments, key=key).exception(timeout=2 * SECONDS)
    assert isinstance(error, KilledWorker), error
    assert repr(key) in str(error)
    assert abs(-1) == client.submit(abs, -1, pure=False).result(timeout=SECONDS)


def killed_worker(client):
    fails_as_killed(client, os._exit, 1)
    workers(client)


def eat_memory():
    eaten = []
    while True:
        eaten.append(bytearray(2**20))


def memory(client):
    kept = client.map(abs, range(20), pure=False)
    before = everywhere(client, kernel_kills)
    fails_as_killed(client, eat_memory)
    workers(client)
    assert [*range(20)] == client.gather(kept)
    assert {0} == before == everywhere(client, kernel_kills)


def kernel_kills():
    """Return how many processes of its container the kernel has killed for their memory."""
    files = ("memory/memory.oom_control", "memory.events")
    (text,) = [
        path.read_text() for file in files if (path := Path("/sys/fs/cgroup") / file).exists()
    ]
    return int(text.partition("oom_kill ")[2].split()[0])


def more_than_memory(client):
    """Keep 1.3 times the memory of the workers, which spill a part."""
    before = everywhere(client, kernel_kills)
    memory = sum(
        w["memory_limit"] for w in client.scheduler_info(n_workers=-1)["workers"].values()
    )
    chunk = 32 * 2**20
    blocks = [
        client.submit(os.urandom, chunk, pure=False) for _ in range(int(1.3 * memory) // chunk)
    ]
    assert {chunk} == {*client.gather(client.map(len, blocks))}
    assert before == everywhere(client, kernel_kills)


def by_processes():
    with multiprocessing.Pool(2) as pool, ProcessPoolExecutor(2) as executor:
        return sum(pool.map(abs, range(10))) + sum(executor.map(abs, range(10)))


def processes(client):
    before = workers(client)
    assert 90 == client.submit(by_processes).result(timeout=SECONDS)
    assert before == workers(client)


def groups(client):
    words = dask.bag.from_sequence([str(number % 10) for number in range(200)], npartitions=8)
    sizes = words.groupby(str, shuffle="tasks").map(lambda group: (group[0], len(group[1])))
    assert [(str(number), 20) for number in range(10)] == sorted(sizes.compute())


def threads_of_numpy():
    """Return the number of threads that a product of matrices starts."""
    before = len([*Path("/proc/self/task").iterdir()])
    numpy = importlib.import_module("numpy")
    numpy.ones((500, 500)) @ numpy.ones((500, 500))
    return len([*Path("/proc/self/task").iterdir()]) - before


def limits(client):
    # A worker may start a thread of its own meanwhile, but not in every attempt.
    attempts = (threads_of_fresh_workers(client) for _ in range(3))
    assert any(threads == {0} for threads in attempts)


def threads_of_fresh_workers(client):
    client.restart(timeout=SECONDS)  # no worker may have loaded numpy
    return everywhere(client, threads_of_numpy)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # workers end on purpose
    with Client("scheduler:8786", timeout=SECONDS) as cluster:
        workers(cluster)
        globals()[sys.argv[1]](cluster)
