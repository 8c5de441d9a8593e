"""The audit of the locks, by the real pip-audit and a stub of the vulnerability database."""

import json
from http.server import BaseHTTPRequestHandler

import pytest

from lab import audit
from tests.conftest import free_port, serving

LOCK = "demo-package==1.0 \\\n    --hash=sha256:" + "0" * 64 + "\n"


class Database(BaseHTTPRequestHandler):
    """Knows a vulnerability of version 1.0 of every package."""

    def do_POST(self):
        """Answer a query as OSV does."""
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        affected = {"package": {"name": query["package"]["name"], "ecosystem": "PyPI"}}
        affected["ranges"] = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]
        found = {
            "id": "CVE-2030-1",
            "summary": "a hole",
            "modified": "2030-01-01T00:00:00Z",
            "published": "2030-01-01T00:00:00Z",
            "affected": [affected],
        }
        body = json.dumps({"vulns": [found]} if query["version"] == "1.0" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def database():
    """Return the options by which pip-audit asks the stub."""
    with serving(Database) as server:
        yield [f"--osv-url=http://127.0.0.1:{server.server_port}"]


@pytest.fixture
def lock(tmp_path):
    """Return a function that writes a lock and returns its path."""

    def write(text):
        path = tmp_path / "demo.lock"
        path.write_text(text)
        return str(path)

    return write


def test_a_known_vulnerability_fails(lock, database, capsys):
    """The output has the package and the vulnerability."""
    assert 1 == audit.audit(lock(LOCK), database)
    out = capsys.readouterr().out
    assert "demo-package" in out
    assert "CVE-2030-1" in out


def test_a_lock_without_known_vulnerabilities_passes(lock, database, capsys):
    """The output says that the lock was checked."""
    assert 0 == audit.audit(lock(LOCK.replace("1.0", "1.1")), database)
    assert "No known vulnerabilities found" in capsys.readouterr().err


def test_without_the_database_the_output_says_that_nothing_was_checked(lock, capsys):
    """A machine without this network can lint too."""
    assert 0 == audit.audit(lock(LOCK), [f"--osv-url=http://127.0.0.1:{free_port()}"])
    assert "not checked for known vulnerabilities" in capsys.readouterr().err


def test_a_lock_without_hashes_fails(lock, database):
    """It would be checked incompletely."""
    assert 1 == audit.audit(lock("demo-package==1.1\n"), database)


def test_all_locks_are_audited(monkeypatch):
    """One finding is enough to fail."""
    results = dict.fromkeys(audit.LOCKS, 0) | {audit.LOCKS[0]: 1}
    monkeypatch.setattr(audit, "audit", lambda lock, _: results[lock])
    assert 1 == audit.main([])
    assert 2 == len(audit.LOCKS)
