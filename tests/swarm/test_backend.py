"""State in an S3 bucket of a real server needs `PULUMI_BACKEND_URL=s3://…` only."""

import os
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from shutil import which

import pytest
import yaml

from lab.golang import ensure_program
from lab.shell import LabError
from tests.conftest import free_port, wait_for
from tests.swarm.conftest import RUNNERS
from tests.swarm.s3 import MODULE, VERSION
from tools.runners import ROOT, PulumiRunner, installed_cli

ACCOUNT = {"AWS_ACCESS_KEY_ID": "dask", "AWS_SECRET_ACCESS_KEY": "swarm-for-tests"}
PROGRAM = """
import pulumi, pulumi_random
word = pulumi_random.RandomPassword("word", length=20)
pulumi.export("word", word.result)
"""

pytestmark = pytest.mark.skipif("pulumi" not in RUNNERS, reason="there is no Pulumi CLI")


@pytest.fixture(scope="module")
def server():
    """Return the program of a real S3 server, built if the machine has none."""
    installed = which("versitygw")
    try:
        return Path(installed) if installed else ensure_program("versitygw", MODULE, VERSION)
    except LabError as error:
        pytest.skip(f"NOT TESTED: state in S3, because there is no server: {error}")


@pytest.fixture
def bucket(server, tmp_path):
    """Serve a folder with one bucket on the loopback."""
    (tmp_path / "data" / "state").mkdir(parents=True)
    port = free_port()
    account = {"ROOT_ACCESS_KEY": ACCOUNT["AWS_ACCESS_KEY_ID"],
               "ROOT_SECRET_KEY": ACCOUNT["AWS_SECRET_ACCESS_KEY"]}  # fmt: skip
    command = [str(server), "--port", f"127.0.0.1:{port}", "posix", str(tmp_path / "data")]
    with (
        (tmp_path / "server.log").open("w") as log,
        subprocess.Popen(command, env=os.environ | account, stdout=log, stderr=log) as process,
    ):
        try:
            wait_for("server", lambda: is_up(port, process, tmp_path / "server.log"))
            yield f"s3://state?endpoint=http://127.0.0.1:{port}&region=us-east-1&s3ForcePathStyle=true"
        finally:
            process.terminate()


def is_up(port, process, log):
    """Return whether the server accepts connections."""
    assert process.poll() is None, log.read_text()
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False


def test_a_stack_lives_in_a_bucket(bucket, tmp_path):
    """It is created, unchanged by a second up, encrypted by the passphrase, and destroyed."""
    project = tmp_path / "project"
    project.mkdir()
    runtime = {"name": "python", "options": {"virtualenv": str(ROOT / ".venv")}}
    (project / "Pulumi.yaml").write_text(yaml.safe_dump({"name": "kept", "runtime": runtime}))
    (project / "__main__.py").write_text(PROGRAM)
    settings = {"PULUMI_BACKEND_URL": bucket, "PULUMI_CONFIG_PASSPHRASE": "for tests", **ACCOUNT}
    stack = PulumiRunner(stack="kept", cli=installed_cli(), settings=settings, project=project)
    stack.create()
    for options in ([], ["--expect-no-changes"]):
        done = stack.run("up", *options, capture=True)
        assert 0 == done.returncode, done.stdout + done.stderr
    word = stack.outputs(secrets=True)["word"]
    kept = [file for file in (tmp_path / "data").rglob("*") if file.is_file()]
    texts = [file.read_bytes() for file in kept]
    assert any(b"RandomPassword" in text for text in texts)
    assert not [text for text in texts if word.encode() in text]
    done = stack.run("destroy", "--remove", capture=True)
    assert 0 == done.returncode, done.stdout + done.stderr
