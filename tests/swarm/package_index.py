"""A package index that only a proxy reaches, with a login: both are one server on this machine."""

import base64
import io
import tarfile
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

import docker
from packaging.utils import canonicalize_name

from tests.conftest import serving

HOST = "packages.invalid"  # no name server knows it
LOGIN = "me:planted-token"


def wheels_of(docker_host, image):
    """Return the content of the files in an image's folder of wheels, by their names."""
    with closing(docker.DockerClient(docker_host)) as engine:
        container = engine.containers.create(image)
        try:
            chunks, _ = container.get_archive("/opt/wheels")
            with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
                files = [member for member in archive if member.isfile()]
                return {Path(m.name).name: archive.extractfile(m).read() for m in files}
        finally:
            container.remove(force=True)


@contextmanager
def running(address, wheels, login):
    """Serve wheels; yield pip's options, and the paths that were asked for."""
    asked = []
    wanted = f"Basic {base64.b64encode(login.encode()).decode()}" if login else None

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            url = urlsplit(self.path)
            if (HOST, wanted) != (url.hostname, self.headers.get("Authorization")):
                self.send_error(401)
                return
            asked.append(url.path)
            body = _answer(wheels, url.path)
            self.send_response(200)
            self.send_header("Content-Length", len(body))
            kind = "application/zip" if url.path.endswith(".whl") else "text/html"
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body)

    with serving(Handler, address) as server:
        index = f"http://{login}@{HOST}/simple" if login else f"http://{HOST}/simple"
        proxy = f"http://{address}:{server.server_port}"
        yield {"index-url": index, "proxy": proxy, "trusted-host": HOST}, asked


def _answer(wheels, path):
    name = path.strip("/").rpartition("/")[2]
    if name in wheels:
        return wheels[name]
    links = [file for file in wheels if canonicalize_name(file.partition("-")[0]) == name]
    return "".join(f'<a href="/files/{file}">{file}</a>' for file in links).encode()
