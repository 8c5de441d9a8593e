"""The proof itself, run by a container on the cluster's own network.

One file that needs nothing but the standard library and distributed, because it travels as text:
`python -c <this file> <order as JSON>`. It runs whatever Python the notebook's image has, 3.10 or
newer. What it prints for the launcher are lines of `MARK` and one JSON object with the key
`progress` (a text, and perhaps `members`), at the end with `proof` or `failure`.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

# Those of distributed, which is imported late and typed in part only.
Client = Any
Future = Any

MARK = "dask-health: "
COMPARED = ("python", "dask", "distributed")

PAUSE_SECONDS = 0.1  # between two looks at something that is awaited
SETTLING_SECONDS = 70  # workers that are being replaced have a grace period of 60 s to leave
VISIT_SECONDS = 30  # a task on every worker, each perhaps still busy with its own start
RESULT_SECONDS = 5  # to fetch a result of a few bytes
TRANSFER_SECONDS = 15  # one round of transfers; 4 MiB take 3.4 s at 10 Mbit/s
TRANSFER_BYTES = 4 * 2**20  # far beyond one packet, so that packets of full size are needed
KNOCK_SECONDS = 5
CONTAINER_MARK = Path("/.dockerenv")  # the engine makes it when it creates a container

# Workers are named by their addresses throughout; a route is (from, to).
Route = tuple[str, str]


class UnprovenError(Exception):
    """The cluster is not what it should be; the message says what was expected and found."""


class MovedError(Exception):
    """Workers came or went during the proof, so it says nothing about those there now."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The cluster's size: workers, their threads and bytes of memory, all together."""

    workers: int
    threads: int
    memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class Notebook:
    """Where the notebook answers; `token_file` is None when only its refusals can be tested.

    One that `is_open` has no login of its own, and lets in whoever is on its networks.
    """

    url: str
    token_file: str | None
    is_open: bool = False


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to prove, and the seconds there are for it."""

    deadline_seconds: float
    scheduler_address: str
    expected: Expected
    notebook: Notebook | None
    packages: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Order":
        """Read an order from JSON with the fields' names as keys."""
        data = json.loads(text)
        notebook = data["notebook"]
        return cls(
            deadline_seconds=data["deadline_seconds"],
            scheduler_address=data["scheduler_address"],
            expected=Expected(**data["expected"]),
            notebook=Notebook(**notebook) if notebook else None,
            packages=tuple(data["packages"]),
        )


def main(argument: str) -> None:
    """Carry out the order given as JSON and print the outcome."""
    order = Order.parse(argument)
    try:
        with deadline(order.deadline_seconds):
            say(proof=prove(order))
    except UnprovenError as unproven:
        say(failure=str(unproven))


def say(**content: object) -> None:
    """Print one line for the launcher."""
    print(MARK + json.dumps(content), flush=True)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise `UnprovenError` in the block after `seconds`, whatever it waits for.

    For the main thread only. An alarm, because a connection that loses large packets can block
    any call to the scheduler.
    """

    def expire(*_: object) -> None:
        raise UnprovenError("not proven in time")

    previous = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def prove(order: Order) -> dict[str, Any]:
    """Prove everything in the order and return the proof; raises `UnprovenError`.

    Of the proof, `members` are the workers and `routes` the pairs of them that a transfer went
    between, for the launcher to hold against the Swarm's own list of tasks.
    """
    say(progress=f"waiting for the scheduler at {order.scheduler_address}")
    wait_for_port(order.scheduler_address)
    client = connect(order.scheduler_address)
    try:
        proof = prove_cluster(client, order)
    finally:
        client.close(timeout=1)
    if order.notebook:
        say(progress="waiting for the notebook")
        wait_for_notebook(order.notebook)
    return proof


def wait_for_port(address: str) -> None:
    """Return when `tcp://host:port` accepts a connection; the deadline ends the wait."""
    url = urlsplit(address)
    while True:
        with suppress(OSError), socket.create_connection((url.hostname, url.port), timeout=2):
            return
        time.sleep(PAUSE_SECONDS)


def connect(address: str) -> Client:
    """Return a client of the scheduler; the deadline ends the attempts."""
    # Only now: the import takes CPU that a scheduler and workers in their own start need more.
    from asyncio import TimeoutError as AsyncTimeoutError  # the built-in one only since 3.11

    import distributed

    while True:
        with suppress(OSError, AsyncTimeoutError):
            return distributed.Client(  # type: ignore[no-untyped-call]
                address, timeout=5, set_as_default=False, name="dask-health"
            )
        time.sleep(PAUSE_SECONDS)


def prove_cluster(client: Client, order: Order) -> dict[str, Any]:
    """Prove scheduler and workers, again from the start whenever workers come or go."""
    while True:
        members = wait_for_members(client, order.expected)
        try:
            return prove_members(client, members, order.packages)
        except UnprovenError:
            raise
        except Exception as error:
            if client.status != "running":
                raise  # the scheduler is gone; the Swarm starts this program anew
            # distributed has many ways to say that a worker is gone.
            reason = moved_or(client, members, f"the proof broke off: {error!r}")
            if not isinstance(reason, MovedError):
                raise reason from error
        say(progress="workers came or went during the proof; starting again")


def wait_for_members(client: Client, expected: Expected) -> dict[str, Any]:
    """Return the expected number of workers, address to description; the deadline ends the wait.

    Raises `UnprovenError` when there are too many for `SETTLING_SECONDS`, or their size is wrong.
    """
    seen: list[str] | None = None
    settled = time.monotonic() + SETTLING_SECONDS
    while True:
        members = workers_of(client)
        if seen != sorted(members):
            seen = sorted(members)
            say(progress=f"{len(seen)} of {expected.workers} workers", members=seen)
        if len(members) == expected.workers:
            check_size(members, expected)
            return members
        if len(members) < expected.workers:
            settled = time.monotonic() + SETTLING_SECONDS
        elif time.monotonic() > settled:
            raise UnprovenError(too_many(members, expected))
        time.sleep(PAUSE_SECONDS)


def workers_of(client: Client) -> dict[str, Any]:
    """Return the workers that the scheduler knows, address to description."""
    workers: dict[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    return workers


def too_many(members: Mapping[str, Any], expected: Expected) -> str:
    """Return the complaint about workers that nobody declared."""
    return (
        f"expected {expected.workers} workers, found {len(members)} for {SETTLING_SECONDS} s: "
        f"{', '.join(sorted(members))}; stop those that are not part of this deployment"
    )


def check_size(members: Mapping[str, Any], expected: Expected) -> None:
    """Raise `UnprovenError` unless threads and memory are exactly as expected."""
    for key, spell, wanted in (
        ("nthreads", "{} threads".format, expected.threads),
        ("memory_limit", gibibytes, expected.memory_bytes),
    ):
        each = {address: member[key] or 0 for address, member in members.items()}
        total = sum(each.values())
        if total != wanted:
            listed = ", ".join(f"{address} has {spell(each[address])}" for address in sorted(each))
            raise UnprovenError(f"expected {spell(wanted)}, found {spell(total)}: {listed}")


def gibibytes(size: int) -> str:
    """Return a number of bytes as Dask shows it; one that is not even, to the byte."""
    exact = f" ({size} bytes)" if size % 2**20 else ""
    return f"{size / 2**30:.2f} GiB of memory{exact}"


def prove_members(
    client: Client, members: Mapping[str, Any], packages: Sequence[str]
) -> dict[str, Any]:
    """Prove that these workers work: versions, packages, tasks, transfers.

    Raises `MovedError` when they are not the same any more.
    """
    say(progress=f"{len(members)} workers; comparing versions")
    found = client.get_versions(packages=[requirement_name(each) for each in packages])
    check_answers(client, members, found["workers"])
    versions = common_versions(found)
    installed = package_versions(found["workers"], packages)
    say(progress="running a task on every worker")
    hosts = visit(client, sorted(members), packages)
    say(progress="moving data between workers")
    routes = transfer(client, hosts)
    if workers_of(client).keys() != members.keys():
        raise MovedError
    return {
        "workers": len(members),
        "threads": sum(member["nthreads"] for member in members.values()),
        "memory_bytes": sum(member["memory_limit"] for member in members.values()),
        "versions": versions,
        "packages": installed,
        "tasks": len(hosts),
        "transfer_bytes": TRANSFER_BYTES,
        "members": sorted(members),
        "routes": routes,
    }


def check_answers(client: Client, members: Mapping[str, Any], answers: Mapping[str, Any]) -> None:
    """Raise unless every worker has answered the scheduler."""
    silent = sorted(members.keys() - answers.keys())
    if silent:
        raise moved_or(client, members, f"no answer from {', '.join(silent)}")


def moved_or(client: Client, members: Collection[str], complaint: str) -> Exception:
    """Return the error to raise: whether other workers are there now, or else the complaint."""
    return MovedError() if workers_of(client).keys() != set(members) else UnprovenError(complaint)


def common_versions(found: Mapping[str, Any]) -> dict[str, str]:
    """Return the one version of each of `COMPARED`; raises `UnprovenError` if there are several.

    `found` is what `Client.get_versions` returns; the client runs the notebook's image.
    """
    everyone = {"the scheduler": found["scheduler"], "the notebook's image": found["client"]}
    everyone |= found["workers"]
    versions = {}
    for package in COMPARED:
        owners = group({who: plain(what["packages"][package]) for who, what in everyone.items()})
        if len(owners) > 1:
            listed = "; ".join(f"{each} in {', '.join(who)}" for each, who in owners.items())
            raise UnprovenError(f"expected one version of {package} everywhere, found {listed}")
        versions[package] = next(iter(owners))
    return versions


def plain(version: str | None) -> str:
    """Return `3.12.1` for the `3.12.1.final.0` that distributed makes of Python's version."""
    return (version or "none").removesuffix(".final.0")


def group(values: Mapping[str, str]) -> dict[str, list[str]]:
    """Turn a mapping around: which keys have each value, in order."""
    owners: dict[str, list[str]] = {}
    for key in sorted(values):
        owners.setdefault(values[key], []).append(key)
    return owners


def requirement_name(requirement: str) -> str:
    """Return `s3fs` for `s3fs[x]>=2026.1`."""
    from packaging.requirements import Requirement

    return Requirement(requirement).name


def package_versions(workers: Mapping[str, Any], requirements: Sequence[str]) -> dict[str, str]:
    """Return the installed version of each required package.

    Raises `UnprovenError` naming the workers that have none or one that does not satisfy.
    """
    from packaging.requirements import Requirement

    installed = {}
    for requirement in map(Requirement, requirements):
        name = requirement.name
        owners = group({who: what["packages"][name] or "" for who, what in workers.items()})
        for version, who in owners.items():
            if not version or not requirement.specifier.contains(version, prereleases=True):
                found = f"version {version}" if version else "nothing"
                raise UnprovenError(f"expected {requirement}, found {found} on {', '.join(who)}")
        installed[name] = ", ".join(owners)
    return installed


def visit(client: Client, workers: Sequence[str], packages: Sequence[str]) -> dict[str, str]:
    """Run a task on every worker, itself and no other; return worker to its host's name.

    Raises `UnprovenError` when one does not run it, or lacks a module of a package.
    """
    names = [requirement_name(each) for each in packages]
    visits = [submit(client, worker, introduce, names) for worker in workers]
    wait(visits, VISIT_SECONDS)
    hosts = {}
    for worker, future in zip(workers, visits, strict=True):
        if future.status != "finished":
            raise moved_or(client, workers, unvisited(worker, future))
        answer = future.result(RESULT_SECONDS)
        if answer["lacking"] or answer["error"]:
            what = answer["error"] or f"no module {', '.join(answer['lacking'])}"
            raise UnprovenError(f"expected {worker} to import {', '.join(packages)}, found {what}")
        hosts[worker] = answer["host"]
    return hosts


def introduce(names: Sequence[str]) -> dict[str, Any]:
    """Return a worker's address, its host's name, and what of the packages it cannot import."""
    from distributed import get_worker

    wanted = {name: modules(name) for name in names}
    lacking = [each for name in names for each in wanted[name] if not findable(each)]
    fresh = [each for name in names if installed_here(name) for each in wanted[name]]
    error = import_error(fresh) if fresh and not lacking else ""
    host = socket.gethostname()
    return {"address": get_worker().address, "host": host, "lacking": lacking, "error": error}


def unvisited(worker: str, future: Future) -> str:
    """Return the complaint about a task that a worker did not run."""
    if future.status == "error":
        return f"expected {worker} to run a task, found {future.exception(RESULT_SECONDS)!r}"
    return f"expected {worker} to run a task, found nothing after {VISIT_SECONDS} s"


def modules(name: str) -> list[str]:
    """Return the top-level modules of an installed distribution, `google.cloud.storage` style."""
    from importlib.metadata import files

    found = set()
    for path in files(name) or []:
        package = path.parts[:-1] if path.name == "__init__.py" else ()
        if path.suffix in (".py", ".so") and len(path.parts) == 1:
            package = (path.name.partition(".")[0],)
        if package and all(part.isidentifier() for part in package):
            found.add(".".join(package))
    top = min((each.count(".") for each in found), default=0)
    return sorted(each for each in found if each.count(".") == top)


def findable(module: str) -> bool:
    """Tell whether a module is there."""
    from importlib.util import find_spec

    try:
        return find_spec(module) is not None
    except ImportError:
        return False


def installed_here(name: str) -> bool:
    """Tell whether a distribution was installed by this container, not by its image's build.

    Only then is it imported here. An import of Prefect takes 2 s on half a CPU, a fifth of a whole
    deployment; it belongs into the build of an image, whose digest then stands for it. Containers
    that install packages when they start differ each time, and take far longer anyway.
    """
    from importlib.metadata import files

    if not CONTAINER_MARK.exists():
        return False
    created = CONTAINER_MARK.stat().st_ctime
    installed = [each.locate() for each in files(name) or [] if each.name == "METADATA"]
    return any(Path(str(each)).stat().st_ctime > created for each in installed)


def import_error(names: Sequence[str]) -> str:
    """Return how importing the modules fails, empty if it does not.

    By an interpreter of its own, which leaves the worker's memory and modules as they are.
    """
    program = [sys.executable, "-c", f"import {', '.join(names)}"]
    done = subprocess.run(  # noqa: PLW1510
        program, capture_output=True, text=True, timeout=VISIT_SECONDS
    )
    return done.stderr.strip().rpartition("\n")[2] if done.returncode else ""


def transfer(client: Client, hosts: Mapping[str, str]) -> list[Route]:
    """Move data between workers on different hosts, each way between every two; return the routes.

    `hosts` is worker to host name. Where containers have names of their own, every worker counts
    as a host, which tests more than is needed and nothing less.
    """
    done: list[Route] = []
    for routes in rounds(group(hosts)):
        stuck = move(client, routes, TRANSFER_BYTES, TRANSFER_SECONDS)
        if stuck:
            raise moved_or(client, hosts, blocked(client, stuck[0]))
        done += routes
    return done


def rounds(hosts: Mapping[str, Sequence[str]]) -> Iterator[list[Route]]:
    """Yield lists of routes, so that all lists together go from every host to every other.

    Within one list each host sends once and receives once, which bounds load and memory; its
    workers take turns.
    """
    names = sorted(hosts)
    for step in range(1, len(names)):
        turn = [hosts[name][step % len(hosts[name])] for name in names]
        yield list(zip(turn, turn[step:] + turn[:step], strict=True))


def move(client: Client, routes: Sequence[Route], size: int, seconds: float) -> list[Route]:
    """Move `size` random bytes along every route at once; return those that did not make it."""
    flights = [fly(client, route, size) for route in routes]
    wait([each for flight in flights for each in flight], seconds)
    return [route for route, flight in zip(routes, flights, strict=True) if not arrived(*flight)]


def fly(client: Client, route: Route, size: int) -> tuple[Future, Future]:
    """Make bytes at one end of the route; return their checksums at this and at the other end."""
    # Fresh bytes for each route: a copy that some other worker has would spare the way.
    block = submit(client, route[0], os.urandom, size)
    return submit(client, route[0], zlib.crc32, block), submit(client, route[1], zlib.crc32, block)


def submit(client: Client, worker: str, function: Any, *args: object) -> Future:  # noqa: ANN401
    """Have one worker, and no other, call `function`."""
    return client.submit(function, *args, workers=[worker], allow_other_workers=False, pure=False)


def wait(futures: Sequence[Future], seconds: float) -> None:
    """Return when all futures are done, well or not, or the seconds are over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not all(each.done() for each in futures):
        time.sleep(0.01)


def arrived(sent: Future, received: Future) -> bool:
    """Tell whether both checksums are there and equal."""
    finished = sent.status == received.status == "finished"
    return finished and bool(sent.result(RESULT_SECONDS) == received.result(RESULT_SECONDS))


def blocked(client: Client, route: Route) -> str:
    """Return the complaint about a route, after a try of a connection, which is small packets."""
    size = f"{TRANSFER_BYTES // 2**20} MiB"
    what = f"a transfer of {size} from {route[0]} to {route[1]} did not finish"
    what += f" in {TRANSFER_SECONDS} s"
    # Not a small transfer: a worker has one under way with each peer, and that one is stuck.
    knock = submit(client, route[1], knocks, route[0])
    wait([knock], KNOCK_SECONDS + 2)
    if knock.status == "finished" and knock.result(RESULT_SECONDS):
        return (
            f"{what}: small messages pass, large ones do not; check the overlay's MTU, it must be "
            "50 bytes below that of the network between the nodes"
        )
    return (
        f"{what}, nor did a connection open in {KNOCK_SECONDS} s: nothing gets through; open "
        "4789/udp and 7946 tcp and udp between these nodes"
    )


def knocks(address: str) -> bool:
    """Tell whether `tcp://host:port` accepts a connection."""
    url = urlsplit(address)
    with suppress(OSError):
        socket.create_connection((url.hostname, url.port), timeout=KNOCK_SECONDS).close()
        return True
    return False


def wait_for_notebook(notebook: Notebook) -> None:
    """Return when the notebook answers, refuses a stranger and accepts its token, if it is to.

    The deadline ends the wait. Raises `UnprovenError` when it lets strangers in, or not its owner.
    """
    while not is_jupyter(ask(notebook.url, "/api")):
        time.sleep(PAUSE_SECONDS)
    private = f"{notebook.url}/api/status"
    stranger = answered(notebook.url, "/api/status")
    if notebook.is_open and stranger != 200:
        raise UnprovenError(f"expected {private} to ask for no login (200), found {stranger}")
    if not notebook.is_open and stranger not in (401, 403):
        raise UnprovenError(f"expected {private} to refuse a stranger (403), found {stranger}")
    if notebook.token_file is None:
        return
    token = Path(notebook.token_file).read_text().strip()
    owner = answered(notebook.url, "/api/status", {"Authorization": f"token {token}"})
    if owner != 200:
        raise UnprovenError(
            f"expected {private} to accept the notebook's token (200), found {owner}; "
            "was the notebook started with another secret?"
        )


def is_jupyter(answer: tuple[int, bytes] | None) -> bool:
    """Tell whether this is how Jupyter tells its version."""
    try:
        return bool(answer and answer[0] == 200 and "version" in json.loads(answer[1]))
    except ValueError:
        return False


def answered(base: str, path: str, headers: Mapping[str, str] | None = None) -> int:
    """Return the HTTP status of the first answer; the deadline ends the wait for one."""
    while (answer := ask(base, path, headers)) is None:
        time.sleep(PAUSE_SECONDS)
    return answer[0]


def ask(
    base: str, path: str, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes] | None:
    """Return HTTP status and body that a GET is answered with, None without an answer.

    Redirects are not followed: a log-in page answers 200 to everybody.
    """
    url = urlsplit(base)
    connection = HTTPConnection(url.hostname or "", url.port, timeout=5)
    try:
        connection.request("GET", url.path.rstrip("/") + path, headers=dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


if __name__ == "__main__":
    main(sys.argv[1])
    # A client that lost its scheduler has threads that would keep the interpreter.
    os._exit(0)
