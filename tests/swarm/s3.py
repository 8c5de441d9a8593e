"""An S3 server on this machine that the lab's nodes reach: versitygw, over a folder."""

import shutil
import socket
import subprocess
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from lab.golang import ensure_program
from tests.conftest import wait_for

VERSION = "1.8.0"
MODULE = "github.com/versity/versitygw/cmd/versitygw"
PORT = 7070
MAKE_CERTIFICATES = """
set -e
cd "$1"
new="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
openssl req -x509 $new -keyout ca.key -out ca.pem -days 2 -subj "/CN=S3 test authority"
openssl req $new -keyout server.key -out server.csr -subj /CN=s3
echo "subjectAltName=IP:$2" >names
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
    -extfile names -out server.pem
"""


@dataclass(kw_only=True)
class Server:
    """A server that accepts one access key; a bucket is a folder in `buckets`."""

    host: str
    folder: Path
    process: subprocess.Popen | None = field(default=None)

    @property
    def endpoint(self):
        return f"https://{self.host}:{PORT}"

    @property
    def ca(self):
        """Return the certificate of the server's authority."""
        return (self.folder / "ca.pem").read_text()

    @property
    def buckets(self):
        return self.folder / "buckets"

    def objects(self, bucket):
        """Return the names of all objects in a bucket."""
        folder = self.buckets / bucket
        return sorted(
            str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
        )

    def start(self, access_key, secret_key):
        """Start the server, or restart it with other keys."""
        self.stop()
        program = ensure_program("versitygw", MODULE, VERSION)
        keys = ["--access", access_key, "--secret", secret_key]
        tls = ["--cert", self.folder / "server.pem", "--key", self.folder / "server.key"]
        listen = ["--port", f"{self.host}:{PORT}"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [program, *keys, *tls, *listen, "posix", self.buckets], stdout=log, stderr=log
            )
        wait_for("answer from the S3 server", self._answers)

    def stop(self):
        """Stop the server if it runs."""
        if self.process:
            self.process.terminate()
            self.process.wait(20)
            self.process = None

    def _answers(self):
        assert self.process.poll() is None, (self.folder / "log").read_text()
        with suppress(OSError), closing(socket.create_connection((self.host, PORT), 2)):
            return True
        return False


@contextmanager
def prepared_server(host, folder, bucket):
    """Yield a server with a bucket at an address of this machine, not started yet."""
    assert shutil.which("openssl"), "openssl is missing: apt-get install openssl"
    server = Server(host=host, folder=folder)
    (server.buckets / bucket).mkdir(parents=True)
    subprocess.run(
        ["sh", "-c", MAKE_CERTIFICATES, "sh", folder, host], check=True, capture_output=True
    )
    try:
        yield server
    finally:
        server.stop()
