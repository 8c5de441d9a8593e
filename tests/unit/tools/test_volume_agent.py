"""A volume's agent and its relay, as processes that speak to each other over a network."""

import gzip
import io
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import threading
import weakref
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from types import SimpleNamespace

import pytest

from tests.certificates import Authority
from tests.conftest import free_port, wait_for
from tools import transfer, volume_agent
from tools.transfer import Agent, TransferError
from tools.volume_agent import FILES, MANIFEST, WORK, BrokenArchiveError

TOKEN = "f" * volume_agent.TOKEN_BYTES
ABOUT = {"stack": "prod", "role": "notebook"}
SOURCE = transfer._SOURCE.read_text()
# Leaves a database with half a transaction in it, and the journal that undoes this half.
KILLED_WRITER = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("pragma cache_size=50")
database.execute("create table results (value)")
database.executemany("insert into results values (?)", [("old" + " " * 1000,)] * 500)
database.commit()
database.execute("update results set value = ?", ("new" + " " * 1000,))
os.kill(os.getpid(), signal.SIGKILL)
"""
# Holds a database until its standard input ends.
HOLDER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    database.execute(statement)
print("held", flush=True)
sys.stdin.read()
"""


class Exec:
    """A command whose input and output are a socket, as Docker attaches them."""

    def __init__(self, _, command):
        self.socket, self._inner = socket.socketpair()
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self.process = subprocess.Popen([sys.executable, *command[1:]], **pipes)
        for target in (self._write, self._read):
            threading.Thread(target=target, daemon=True).start()

    def _write(self):
        with suppress(OSError), self.process.stdin:
            while data := self._inner.recv(65536):
                self.process.stdin.write(data)
                self.process.stdin.flush()

    def _read(self):
        with suppress(OSError), self.process.stdout, self.process.stderr:
            while data := self.process.stdout.read1(65536):
                self._frame(1, data)
            self._frame(2, self.process.stderr.read())
        self.process.wait()
        with suppress(OSError):
            self._inner.shutdown(socket.SHUT_RDWR)
        self._inner.close()

    def _frame(self, kind, data):
        self._inner.sendall(bytes([kind, 0, 0, 0]) + len(data).to_bytes(4, "big") + data)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return the files of TLS of a stack, and of a stranger."""
    folder = tmp_path_factory.mktemp("tls")
    own, foreign = Authority("own"), Authority("foreign")
    (folder / "own.pem").write_text(own.pem)
    common = {"authorities": str(folder / "own.pem")}
    return SimpleNamespace(
        own={**common, "certificate": own.issue(folder / "client.pem")},
        foreign={**common, "certificate": foreign.issue(folder / "foreign.pem")},
    )


@contextmanager
def serving(folder, tls, source=SOURCE):
    """Run the agent of a volume; yield its process and what reaches it."""
    port = free_port()
    order = {
        "folder": str(folder),
        "port": port,
        "seconds": 60,
        "token_hash": sha256(TOKEN.encode()).hexdigest(),
        **tls,
    }
    command = [sys.executable, "-c", source, "serve", json.dumps(order)]
    reached = {"host": "127.0.0.1", "port": port, "token": TOKEN, "seconds": 10, **tls}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield process, reached
        finally:
            process.terminate()


@contextmanager
def connected(order):
    """Yield the connection of a relay to an agent."""
    commands = []

    def attach(*arguments):
        commands.append(Exec(*arguments))
        return commands[0].socket

    manager = SimpleNamespace(attach=attach)
    with closing(transfer._connect(manager, "relay", order)) as attached:
        yield attached
    commands[0].process.wait(10)


@contextmanager
def agent_of(folder, tls=None):
    """Yield the connection to a new agent of a volume."""
    with serving(folder, tls or {}) as (_, order), connected(order) as attached:
        yield Agent(attached)


@pytest.fixture
def volume(tmp_path):
    """Return a volume with everything that a home may hold."""
    folder = tmp_path / "volume"
    (folder / "work" / "empty").mkdir(parents=True)
    (folder / "work" / "big").write_bytes(os.urandom(3 * volume_agent.CHUNK + 7))
    (folder / "work" / "linked").hardlink_to(folder / "work" / "big")
    (folder / ".config").write_text("name = 1\n")
    (folder / ".config").chmod(0o600)
    (folder / "script.sh").write_text("echo\n")
    (folder / "script.sh").chmod(0o2755)
    (folder / "shortcut").symlink_to("work/big")
    (folder / "nowhere").symlink_to("/missing")
    (folder / os.fsdecode(b"caf\xe9")).write_text("latin")
    os.mkfifo(folder / "pipe")
    folder.chmod(0o750)
    (folder / "work").chmod(0o500)
    if os.geteuid() == 0:
        os.chown(folder / ".config", 1000, 100)
        os.chown(folder, 1000, 1000)
    os.utime(folder / "script.sh", (1, 1_000_000_000))
    return folder


@pytest.fixture
def other(tmp_path):
    """Return a volume with other files."""
    folder = tmp_path / "other"
    (folder / "work").mkdir(parents=True)
    (folder / "work" / "big").write_text("older")
    (folder / "lost").write_text("lost")
    (folder / "history.sqlite-wal").write_text("of a database that was open")
    return folder


def listing(folder):
    """Return everything about the files of a folder, by name."""
    return {path.relative_to(folder): facts(path) for path in [folder, *folder.rglob("*")]}


def facts(path):
    """Return kind, mode, owner, time and content of a file."""
    status = path.lstat()
    is_file = path.is_file() and not path.is_symlink()
    content, time = (path.read_bytes(), int(status.st_mtime)) if is_file else (b"", 0)
    target = path.readlink() if path.is_symlink() else ""
    return status.st_mode, status.st_uid, status.st_gid, time, content, target, status.st_nlink


def packed(folder):
    """Return the archive of a folder as bytes."""
    target = io.BytesIO()
    volume_agent.pack(folder, target, ABOUT)
    return target.getvalue()


@pytest.mark.parametrize("kind", ["own", "none"])
def test_a_volume_is_moved_whole(volume, other, files, tmp_path, kind):
    """Contents, links, owners, modes and times are equal, with and without TLS."""
    tls = getattr(files, kind, {})
    archive = tmp_path / "home.tar.gz"
    with agent_of(volume, tls) as agent:
        assert [] == agent.pack(ABOUT, archive)["cut"]
    manifest = volume_agent.check(archive)
    assert ("prod", "notebook", 4) == (*(manifest[k] for k in ABOUT), len(manifest["files"]))
    with agent_of(other, tls) as agent:
        agent.unpack(archive)
        # The old files may be in a folder that fewer users can read than the new files' folder.
        assert 0o700 == (other / WORK).stat().st_mode & 0o777
        assert {"lost": ["lost"], "lost_count": 1, "changed_count": 1} == agent.swap()
        agent.commit()
    assert listing(volume) == listing(other)


def test_a_stranger_is_refused(volume, files):
    """Without the token, or with a certificate of another CA; then the agent still waits."""
    with serving(volume, files.own) as (_, order):
        for wrong in ({"token": "0" * len(TOKEN)}, {**files.foreign, "seconds": 0}):
            with connected(order | wrong) as attached, pytest.raises(TransferError):
                Agent(attached).commit()
        with connected(order) as attached, pytest.raises(TransferError, match="FileNotFound"):
            Agent(attached).commit()


@pytest.mark.parametrize("kind", ["own", "none"])
def test_a_silent_stranger_does_not_hold_up_an_agent(volume, files, kind):
    """Every container on the network can connect."""
    source = SOURCE.replace("TOKEN_SECONDS = 10", "TOKEN_SECONDS = 2")
    with serving(volume, getattr(files, kind, {}), source) as (process, order):
        address = order["host"], order["port"]
        wait_for("agent", lambda: not connect_ex(address))
        with (
            socket.create_connection(address),
            connected(order) as attached,
            pytest.raises(TransferError, match="FileNotFound"),
        ):
            Agent(attached).commit()
        process.wait(10)


def connect_ex(address):
    """Connect and close; return the error's number."""
    with socket.socket() as tried:
        return tried.connect_ex(address)


def test_an_agent_ends_by_itself(volume):
    """All that began it may be gone."""
    with serving(volume, {"seconds": 1}) as (process, _):
        wait_for("end of the agent", lambda: process.poll() is not None, 10)


def test_an_agent_that_cannot_be_reached_is_named(files):
    """The relay gives up."""
    order = {"host": "127.0.0.1", "port": free_port(), "token": TOKEN, "seconds": 0}
    with (
        connected(order) as attached,
        pytest.raises(TransferError, match=r"127\.0\.0\.1:\d+ cannot be reached"),
    ):
        Agent(attached).commit()


@pytest.mark.parametrize("end", ["connection", "signal"])
def test_an_unfinished_restore_is_undone(volume, other, tmp_path, end):
    """The old files are back when the connection or the agent ends."""
    before = listing(other)
    archive = tmp_path / "home.tar.gz"
    archive.write_bytes(packed(volume))
    with serving(other, {}) as (process, order):
        with connected(order) as attached:
            agent = Agent(attached)
            agent.unpack(archive)
            agent.swap()
            assert listing(volume).keys() < listing(other).keys()
            if end == "signal":
                process.send_signal(signal.SIGTERM)
                process.wait(10)
        wait_for("end of the agent", lambda: process.poll() is not None)
    assert before == listing(other)


@pytest.mark.parametrize("calls", range(9))
def test_a_killed_swap_is_undone_by_the_next_restore(volume, other, monkeypatch, calls):
    """Whichever file it was about to move."""
    before = listing(other)
    (other / WORK).mkdir()
    with tarfile.open(fileobj=io.BytesIO(packed(volume)), mode="r:gz") as tar:
        tar.extractall(other / WORK, filter="fully_trusted")
    left = iter([None] * calls)
    rename = volume_agent.Path.rename

    def rename_until_killed(self, target):
        next(left)
        rename(self, target)

    with monkeypatch.context() as patch, suppress(StopIteration):
        patch.setattr(volume_agent.Path, "rename", rename_until_killed)
        volume_agent.swap(other)
    with pytest.raises(RuntimeError, match="restore it first"):
        packed(other)
    volume_agent.undo(other)
    assert before == listing(other)


def test_a_database_has_every_commit(tmp_path):
    """While a program holds it open, with its log."""
    folder = tmp_path / "volume"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "prefect.db")) as writer:
        writer.execute("pragma journal_mode=wal")
        writer.execute("create table runs (name)")
        writer.execute("insert into runs values ('first')")
        writer.commit()
        writer.execute("insert into runs values ('open')")
        with tarfile.open(fileobj=io.BytesIO(packed(folder)), mode="r:gz") as tar:
            assert [FILES, f"{FILES}/prefect.db", MANIFEST] == tar.getnames()
            tar.extractall(tmp_path, filter="data")
    with closing(sqlite3.connect(tmp_path / FILES / "prefect.db")) as copy:
        assert [("first",)] == copy.execute("select name from runs").fetchall()


def test_a_database_of_a_killed_program_is_whole(tmp_path):
    """The copy has the journal, too: without it, half a transaction would stay."""
    folder = tmp_path / "volume"
    folder.mkdir()
    writer = [sys.executable, "-c", KILLED_WRITER, folder / "results.db"]
    assert -signal.SIGKILL == subprocess.run(writer, check=False).returncode
    assert (folder / "results.db-journal").stat().st_size
    (tmp_path / "new").mkdir()
    volume_agent.unpack(tmp_path / "new", io.BytesIO(packed(folder)))
    with closing(sqlite3.connect(tmp_path / "new" / WORK / FILES / "results.db")) as copy:
        assert [("ok",)] == copy.execute("pragma integrity_check").fetchall()
        counted = copy.execute("select trim(value), count(*) from results group by value")
        assert [("old", 500)] == counted.fetchall()


@pytest.mark.parametrize(
    "statements",
    [
        ("create table runs (name)", "begin exclusive"),
        (
            "pragma journal_mode=wal",
            "pragma locking_mode=exclusive",
            "create table runs (name)",
        ),
    ],
    ids=["transaction", "log"],
)
def test_a_locked_database_is_copied_as_it_is_and_named(tmp_path, monkeypatch, statements):
    """A program may hold it for hours, and everything else must be in the backup."""
    monkeypatch.setattr(volume_agent, "SQLITE_SECONDS", 0.1)
    (tmp_path / "text").write_text("other")
    command = [sys.executable, "-c", HOLDER, tmp_path / "results.db", *statements]
    target = io.BytesIO()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert b"held\n" == holder.stdout.readline()
        summary = volume_agent.pack(tmp_path, target, ABOUT)
        holder.stdin.close()
    assert [f"{FILES}/results.db"] == summary["locked"]
    target.seek(0)
    with tarfile.open(fileobj=target) as tar:
        files = {path.name for path in tmp_path.iterdir()} | {"results.db"}
        assert b"other" == tar.extractfile(f"{FILES}/text").read()
        assert {f"{FILES}/{name}" for name in files} <= {*tar.getnames()}


def test_what_only_looks_like_a_database_is_copied_as_it_is(tmp_path):
    """With the files beside it."""
    (tmp_path / "a.db").write_bytes(volume_agent.SQLITE_MAGIC + b"nonsense")
    (tmp_path / "a.db-wal").write_bytes(b"log")
    with tarfile.open(fileobj=io.BytesIO(packed(tmp_path)), mode="r:gz") as tar:
        assert {f"{FILES}/a.db", f"{FILES}/a.db-wal"} < set(tar.getnames())


def test_files_may_change_while_they_are_read(tmp_path, monkeypatch):
    """A deleted file is left out, a shortened file is filled up and reported."""
    (tmp_path / "log").write_text("long")
    paths = [tmp_path, tmp_path / "deleted", tmp_path / "log"]
    monkeypatch.setattr(volume_agent, "_walk", lambda _: iter(paths))

    class Shortened(volume_agent._Source):
        def __init__(self, file):
            super().__init__(file)
            os.truncate(file.name, 2)

    monkeypatch.setattr(volume_agent, "_Source", Shortened)
    target = io.BytesIO()
    assert [f"{FILES}/log"] == volume_agent.pack(tmp_path, target, ABOUT)["cut"]
    target.seek(0)
    with tarfile.open(fileobj=target) as tar:
        assert b"lo" + bytes(2) == tar.extractfile(f"{FILES}/log").read()


def test_a_file_with_holes_needs_no_more_room(tmp_path):
    """Arrays on the disk are often larger than what is in them."""
    folder = tmp_path / "volume"
    folder.mkdir()
    with (folder / "array").open("wb") as file:
        file.seek(2**25 + 1)
        file.write(b"data")
        file.truncate(2**26 + 3)
    (folder / "zeros").write_bytes(bytes(9))
    (tmp_path / "new").mkdir()
    volume_agent.unpack(tmp_path / "new", io.BytesIO(packed(folder)))
    new = tmp_path / "new" / WORK / FILES
    assert listing(folder) == listing(new)
    assert (new / "array").stat().st_blocks * 512 < 2**20


@pytest.mark.parametrize("action", ["pack", "check", "unpack"])
def test_no_entry_is_kept_in_memory(tmp_path, monkeypatch, action):
    """An agent must restore what another agent could pack."""
    alive, counts = weakref.WeakSet(), []

    class Entry(tarfile.TarInfo):
        def __new__(cls, *_):
            entry = super().__new__(cls)
            alive.add(entry)
            counts.append(len(alive))
            return entry

    new, archive = tmp_path / "new", tmp_path / "home.tar.gz"
    for folder in (new, tmp_path / "volume"):
        folder.mkdir()
    for number in range(50):
        (tmp_path / "volume" / str(number)).touch()
    if action != "pack":
        archive.write_bytes(packed(tmp_path / "volume"))
    monkeypatch.setattr(tarfile.TarFile, "tarinfo", Entry)
    {
        "pack": lambda: packed(tmp_path / "volume"),
        "check": lambda: volume_agent.check(archive),
        "unpack": lambda: volume_agent.unpack(new, io.BytesIO(archive.read_bytes())),
    }[action]()
    assert len(counts) > 50
    assert max(counts) < 10


def changed(archive, change):
    """Return an archive whose members and manifest went through a function."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        members = [(m, tar.extractfile(m).read() if m.isreg() else b"") for m in tar]
    *entries, (info, text) = members
    manifest = json.loads(text)
    change(entries, manifest)
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as tar:
        for member, content in [*entries, (info, json.dumps(manifest).encode())]:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return target.getvalue()


def entry(name, kind=tarfile.REGTYPE, link=""):
    """Return an entry of an archive."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, b""


def smuggled(*entries):
    """Return a change that adds entries."""

    def change(members, manifest):
        members += [entry(*arguments) for arguments in entries]
        manifest["entries"] += len(entries)
        manifest["files"] |= {e[0]: sha256().hexdigest() for e in entries if len(e) == 1}

    return change


BREAKS = {
    "differs": lambda _, manifest: manifest["files"].update({f"{FILES}/.config": "0"}),
    "is left out": lambda members, _: members.pop(),
    "count": lambda _, manifest: manifest.update(entries=1),
    "format": lambda _, manifest: manifest.update(format=2),
    "not an archive of": lambda _, manifest: manifest.pop("files"),
    "parent": smuggled((f"{FILES}/../evil",)),
    "folder": smuggled((f"{FILES}/..", tarfile.DIRTYPE), (f"{FILES}/../evil",)),
    "absolute": smuggled(("/etc/evil",)),
    "outside": smuggled(("evil",)),
    "through a link": smuggled(
        (f"{FILES}/door", tarfile.SYMTYPE, "/etc"), (f"{FILES}/door/evil",)
    ),
    "through a link of another spelling": smuggled(
        (f"{FILES}//door", tarfile.SYMTYPE, "/etc"),
        (f"{FILES}/door", tarfile.DIRTYPE),
        (f"{FILES}/door/evil",),
    ),
    "link to another archive": smuggled((f"{FILES}/door", tarfile.LNKTYPE, "/etc/passwd")),
    "twice": smuggled((f"{FILES}/.config",)),
    "device": smuggled((f"{FILES}/device", tarfile.CHRTYPE)),
}


@pytest.mark.parametrize("kind", BREAKS)
def test_a_changed_archive_is_refused(volume, tmp_path, kind):
    """Before anything is sent."""
    archive = tmp_path / "home.tar.gz"
    archive.write_bytes(changed(packed(volume), lambda *_: None))
    assert volume_agent.check(archive)
    archive.write_bytes(changed(packed(volume), BREAKS[kind]))
    with pytest.raises(BrokenArchiveError, match=r"home\.tar\.gz: "):
        volume_agent.check(archive)


@pytest.mark.parametrize("part", [0, 0.3, 0.9, 1])
def test_a_cut_archive_is_refused(volume, tmp_path, part):
    """Wherever it ends."""
    whole = packed(volume)
    archive = tmp_path / "home.tar.gz"
    archive.write_bytes(whole[: int((len(whole) - 1) * part)])
    with pytest.raises(BrokenArchiveError, match=r"home\.tar\.gz: "):
        volume_agent.check(archive)


def test_what_is_no_archive_is_refused(tmp_path):
    """A text, and a compressed text."""
    archive = tmp_path / "home.tar.gz"
    for content in (b"text", gzip.compress(b"text"), gzip.compress(bytes(10240))):
        archive.write_bytes(content)
        with pytest.raises(BrokenArchiveError, match=r"home\.tar\.gz: "):
            volume_agent.check(archive)


@pytest.mark.parametrize("kind", ["differs", "cut"])
def test_what_arrives_broken_touches_nothing(volume, other, tmp_path, kind):
    """The agent compares what it has written, and removes it."""
    whole = packed(volume)
    archive = tmp_path / "home.tar.gz"
    is_cut = kind == "cut"
    archive.write_bytes(whole[: len(whole) // 2] if is_cut else changed(whole, BREAKS[kind]))
    before = listing(other)
    with agent_of(other) as agent, pytest.raises(TransferError, match="Error: "):
        agent.unpack(archive)
    assert before == listing(other)
