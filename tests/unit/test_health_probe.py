"""The proof itself: pure decisions, and all of it against a real cluster in this process."""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise, permutations

import pytest

from health import probe
from health.probe import Expected, MovedError, Notebook, UnprovenError
from tests.conftest import ROOT

GIB = 2**30
TOKEN = "not-a-real-token"


def member(threads=1, memory=GIB):
    return {"nthreads": threads, "memory_limit": memory}


def versions(**packages):
    return {"packages": {"python": "3.12.1.final.0", "dask": "1", "distributed": "1"} | packages}


@pytest.mark.parametrize("sizes", [[1], [1, 1], [2, 2], [1, 2, 3], [1] * 7, [5, 1, 4, 2]])
def test_transfers_go_from_every_host_to_every_other(sizes):
    """Within one round each host sends once and receives once, never to itself."""
    hosts = {f"h{i}": [f"w{i}.{k}" for k in range(size)] for i, size in enumerate(sizes)}
    host_of = {worker: host for host, workers in hosts.items() for worker in workers}
    covered = []
    for routes in probe.rounds(hosts):
        crossed = [(host_of[a], host_of[b]) for a, b in routes]
        assert {1} == set(Counter(a for a, _ in crossed).values())
        assert {1} == set(Counter(b for _, b in crossed).values())
        covered += crossed
    assert sorted(permutations(hosts, 2)) == sorted(covered)


def test_the_workers_of_a_host_take_turns():
    """A host's workers share what it has to hold."""
    hosts = {"a": ["a1", "a2"], "b": ["b1", "b2"], "c": ["c1", "c2"]}
    senders = [{source for source, _ in routes} for routes in probe.rounds(hosts)]
    assert all(one.isdisjoint(other) for one, other in pairwise(senders))


def test_the_right_size_passes():
    """Threads and memory count together."""
    probe.check_size(
        {"a": member(), "b": member()}, Expected(workers=2, threads=2, memory_bytes=2 * GIB)
    )


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a": member(threads=2), "b": member()}, "expected 2 threads, found 3.*a has 2 threads"),
        ({"a": member(memory=GIB // 2), "b": member()}, "expected 2.00 GiB .*found 1.50 GiB"),
        ({"a": member(memory=None), "b": member()}, "expected 2.00 GiB .*found 1.00 GiB"),
        ({"a": member(memory=GIB + 1), "b": member()}, r"2147483649 bytes"),
    ],
)
def test_another_size_is_told_by_worker(members, message):
    """Neither less nor more is what was declared."""
    with pytest.raises(UnprovenError, match=message):
        probe.check_size(members, Expected(workers=2, threads=2, memory_bytes=2 * GIB))


def test_common_versions_are_returned():
    """Python's version is spelled as people know it."""
    found = {"scheduler": versions(), "client": versions(), "workers": {"w": versions()}}
    assert {"python": "3.12.1", "dask": "1", "distributed": "1"} == probe.common_versions(found)


@pytest.mark.parametrize(
    ("changed", "bearer"),
    [
        ({"scheduler": versions(dask="2")}, "the scheduler"),
        ({"client": versions(dask="2")}, "the notebook's image"),
        ({"workers": {"tcp://1": versions(), "tcp://2": versions(dask="2")}}, "tcp://2"),
    ],
)
def test_another_version_is_told_with_its_bearer(changed, bearer):
    """The majority is not always right, so both are named."""
    found = {"scheduler": versions(), "client": versions(), "workers": {"tcp://1": versions()}}
    with pytest.raises(UnprovenError, match=rf"one version of dask .*2 in {bearer}"):
        probe.common_versions(found | changed)


@pytest.mark.parametrize(
    ("requirement", "message"),
    [
        ("s3fs", None),
        ("s3fs[boto3]>=2026.1,<2027", None),
        ("s3fs>=2027", r"expected s3fs>=2027, found version 2026\.9\.0 on w1, w2"),
        ("absent", "expected absent, found nothing on w1, w2"),
    ],
)
def test_packages_satisfy_their_requirements(requirement, message):
    """A package that is there in another version is not the one that was asked for."""
    each = {"packages": {"s3fs": "2026.9.0", "absent": None}}
    workers = {"w1": each, "w2": each}
    if message is None:
        assert {"s3fs": "2026.9.0"} == probe.package_versions(workers, [requirement])
        return
    with pytest.raises(UnprovenError, match=message):
        probe.package_versions(workers, [requirement])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("pytest", ["_pytest", "py", "pytest"]), ("PyYAML", ["_yaml", "yaml"]), ("absent", None)],
)
def test_modules_of_a_distribution(name, expected):
    """The names differ more often than not."""
    if expected is None:
        with pytest.raises(ImportError):
            probe.modules(name)
        return
    assert expected == probe.modules(name)


def test_modules_are_found_without_import():
    """Finding one costs nothing, importing it may cost seconds."""
    assert probe.findable("json")
    assert not probe.findable("no_such_module")
    assert not probe.findable("no_such_package.module")


def test_an_import_that_fails_is_told():
    """By an interpreter of its own, with the last line of its traceback."""
    assert "" == probe.import_error(["json", "csv"])
    assert "No module named 'no_such_module'" in probe.import_error(["no_such_module"])


def test_only_what_a_container_installs_itself_is_imported(monkeypatch, tmp_path):
    """The mark is as old as the container."""
    mark = tmp_path / "mark"
    monkeypatch.setattr(probe, "CONTAINER_MARK", mark)
    assert not probe.installed_here("pytest")
    mark.touch()
    assert not probe.installed_here("pytest")
    made = tmp_path / "made-1.0.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: made\nVersion: 1.0\n")
    (made / "RECORD").write_text("made-1.0.dist-info/METADATA,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert probe.installed_here("made")


def test_a_deadline_ends_any_wait():
    """Also one inside a library, which is why it is an alarm."""
    with pytest.raises(UnprovenError, match="not proven in time"), probe.deadline(0.05):
        time.sleep(5)


@pytest.fixture(scope="module")
def cluster():
    """Return a cluster of two workers in this process."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "memory_limit": GIB}
    with distributed.LocalCluster(
        processes=False, protocol="tcp://", dashboard_address=None, **options
    ) as made:
        yield made


@pytest.fixture
def client(cluster):
    """Return a client of it."""
    with cluster.get_client() as made:
        yield made


def order(cluster, **changes):
    expected = {"workers": 2, "threads": 2, "memory_bytes": 2 * GIB}
    told = {"deadline_seconds": 20, "scheduler_address": cluster.scheduler_address}
    told |= {"expected": expected, "notebook": None, "packages": ["pytest>=8"]}
    return json.dumps(told | changes)


def said(capsys):
    lines = capsys.readouterr().out.splitlines()
    return [json.loads(line.removeprefix(probe.MARK)) for line in lines]


def test_a_cluster_is_proven(cluster, capsys):
    """The proof has what was asked for; nothing crosses hosts where there is one."""
    probe.main(order(cluster))
    proof = said(capsys)[-1]["proof"]
    assert (2, 2, 2 * GIB, 2) == tuple(
        proof[key] for key in ("workers", "threads", "memory_bytes", "tasks")
    )
    assert {"pytest"} == proof["packages"].keys()
    assert [] == proof["routes"]
    assert sorted(each.address for each in cluster.workers.values()) == proof["members"]


def test_the_program_works_as_text(cluster):
    """Its functions reach the workers although they cannot import it."""
    program = (ROOT / "health" / "probe.py").read_text()
    run = subprocess.run(
        [sys.executable, "-c", program, order(cluster)],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert "proof" in json.loads(run.stdout.splitlines()[-1].removeprefix(probe.MARK))


def test_too_few_workers_are_waited_for(cluster, capsys):
    """Until the deadline; the last progress says how many there are."""
    expected = {"workers": 3, "threads": 3, "memory_bytes": 3 * GIB}
    probe.main(order(cluster, expected=expected, deadline_seconds=1))
    *_, counted, failure = said(capsys)
    assert "2 of 3 workers" == counted["progress"]
    assert 2 == len(counted["members"])
    assert "not proven in time" == failure["failure"]


def test_too_many_workers_are_refused(cluster, capsys, monkeypatch):
    """After they have had the time to leave."""
    monkeypatch.setattr(probe, "SETTLING_SECONDS", 0.3)
    expected = {"workers": 1, "threads": 1, "memory_bytes": GIB}
    probe.main(order(cluster, expected=expected))
    assert "expected 1 workers, found 2" in said(capsys)[-1]["failure"]


def test_a_missing_package_is_named(cluster, capsys):
    """With the workers that lack it."""
    probe.main(order(cluster, packages=["no-such-package"]))
    assert "expected no-such-package, found nothing on tcp://" in said(capsys)[-1]["failure"]


def test_data_moves_between_hosts(client):
    """Each worker stands for a host of its own where containers have names of their own."""
    one, other = probe.workers_of(client)
    routes = probe.transfer(client, {one: "host-1", other: "host-2"})
    assert {(one, other), (other, one)} == set(routes)


def test_a_way_for_small_packets_only_is_named(client, monkeypatch):
    """Connections open and data does not arrive: the packets are too large."""
    monkeypatch.setattr(probe, "TRANSFER_SECONDS", 0)
    one, other = probe.workers_of(client)
    with pytest.raises(UnprovenError, match=f"{one} to {other}.*check the overlay's MTU"):
        probe.transfer(client, {one: "host-1", other: "host-2"})


def test_a_closed_way_is_named(client, monkeypatch):
    """Not even a connection opens."""
    monkeypatch.setattr(probe, "TRANSFER_SECONDS", 0)
    monkeypatch.setattr(probe, "knocks", lambda _: False)
    one, other = probe.workers_of(client)
    with pytest.raises(UnprovenError, match="nothing gets through; open 4789/udp"):
        probe.transfer(client, {one: "host-1", other: "host-2"})


def test_workers_that_came_or_went_are_no_failure(client, monkeypatch):
    """The proof starts again instead of blaming those that are there now."""
    one, other = probe.workers_of(client)
    assert isinstance(probe.moved_or(client, [one], "complaint"), MovedError)
    assert isinstance(probe.moved_or(client, [one, other], "complaint"), UnprovenError)


def test_a_worker_that_goes_during_the_proof_starts_it_again(cluster, monkeypatch, capsys):
    """Whatever distributed raises then; with the same workers it is a failure."""
    proofs = iter([OSError("lost"), MovedError(), {"workers": 2}])

    def prove_members(*_):
        proof = next(proofs)
        if isinstance(proof, Exception):
            raise proof
        return proof

    monkeypatch.setattr(probe, "prove_members", prove_members)
    monkeypatch.setattr(probe, "moved_or", lambda *_: MovedError())
    probe.main(order(cluster))
    assert {"workers": 2} == said(capsys)[-1]["proof"]


def test_an_error_that_no_worker_explains_is_a_failure(cluster, monkeypatch, capsys):
    """All workers are still there."""
    monkeypatch.setattr(probe, "visit", lambda *_: 1 / 0)
    probe.main(order(cluster))
    assert "the proof broke off: ZeroDivisionError" in said(capsys)[-1]["failure"]


class Jupyter(BaseHTTPRequestHandler):
    """Answers as Jupyter does; `open_to_all` breaks it."""

    open_to_all = False

    def do_GET(self):
        owner = self.headers["Authorization"] == f"token {TOKEN}"
        free = self.path == "/hub/api" or owner or self.open_to_all
        self.send_response(200 if free else 403)
        self.end_headers()
        self.wfile.write(b'{"version": "2.17.0"}' if free else b"{}")

    def log_message(self, *_):
        pass


@pytest.fixture
def notebook(monkeypatch, tmp_path):
    """Return a notebook below a path, and the file of its token."""
    token_file = tmp_path / "token"
    token_file.write_text(f"{TOKEN}\n")
    with ThreadingHTTPServer(("127.0.0.1", 0), Jupyter) as server:
        threading.Thread(target=server.serve_forever, args=[0.01]).start()
        url = f"http://127.0.0.1:{server.server_port}/hub/"
        yield Notebook(url=url, token_file=str(token_file))
        server.shutdown()


def test_a_notebook_that_knows_its_owner_passes(notebook):
    """It answers, refuses strangers and takes its token."""
    probe.wait_for_notebook(notebook)


def test_a_notebook_open_to_all_is_refused(notebook, monkeypatch):
    """The worst case, because everything seems to work."""
    monkeypatch.setattr(Jupyter, "open_to_all", True)
    with pytest.raises(UnprovenError, match=r"refuse a stranger \(403\), found 200"):
        probe.wait_for_notebook(notebook)


def test_a_notebook_that_is_to_be_open_has_to_be(notebook, monkeypatch):
    """Without a login of its own it lets in whom the one in front did."""
    is_open = Notebook(url=notebook.url, token_file=None, is_open=True)
    with pytest.raises(UnprovenError, match=r"ask for no login \(200\), found 403"):
        probe.wait_for_notebook(is_open)
    monkeypatch.setattr(Jupyter, "open_to_all", True)
    probe.wait_for_notebook(is_open)


def test_a_notebook_with_another_token_is_refused(notebook, tmp_path):
    """The message does not hold the token."""
    (tmp_path / "token").write_text("another-token")
    with pytest.raises(UnprovenError, match="accept the notebook's token") as refused:
        probe.wait_for_notebook(notebook)
    assert "another-token" not in str(refused.value)


def test_with_a_password_only_strangers_are_tried(notebook, tmp_path):
    """There is no token to show."""
    (tmp_path / "token").write_text("another-token")
    probe.wait_for_notebook(Notebook(url=notebook.url, token_file=None))


def test_an_absent_notebook_is_waited_for():
    """It may still be starting; the deadline ends the wait."""
    absent = Notebook(url="http://127.0.0.1:9", token_file=None)
    with pytest.raises(UnprovenError, match="not proven in time"), probe.deadline(0.3):
        probe.wait_for_notebook(absent)
