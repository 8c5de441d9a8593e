"""A registry with a password on every node of the lab, with the images of the lab's own registry.

It has another port, so to Docker its images have other names, and no node has them. `docker login`
makes the login, through the manager's engine.
"""

import json
import subprocess
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import bcrypt
import docker

from lab import registry
from tests.conftest import wait_for

USER, PASSWORD = "robot", "planted-password"


@dataclass(frozen=True, kw_only=True)
class PrivateRegistry:
    """A running registry; `folder` is where the `docker` command keeps its login."""

    host: str
    manager: str
    folder: Path

    def image(self, image):
        """Return the reference that an image of the lab's registry has here."""
        return f"{self.host}/{image.partition('/')[2]}"

    def log_in(self, password=PASSWORD):
        """Log in as people do; the manager's engine asks the registry."""
        docker_command = ["docker", "--config", str(self.folder), "--host", self.manager]
        call = [*docker_command, "login", "--username", USER, "--password-stdin", self.host]
        subprocess.run(call, input=password, text=True, check=True, capture_output=True)

    def log_out(self):
        """Forget the login on this machine; the registry knows no session."""
        (self.folder / "config.json").write_text("{}")


@contextmanager
def running(lab, folder):
    """Run it with all its files in `folder`; afterwards no node has its images."""
    port = lab.registry_port + 200
    private = PrivateRegistry(host=f"localhost:{port}", manager=lab.docker_host, folder=folder)
    config = _write_config(lab, folder, port)
    private.log_out()
    servers = [_start(node, config) for node in lab.nodes]
    try:
        wait_for("registry with a password", lambda: all(_listens(s, port) for s in servers), 20)
        yield private
    finally:
        for server in servers:
            server.terminate()
            server.wait(timeout=20)
        for node in lab.nodes:
            _forget_images(node, private.host)


def _write_config(lab, folder, port):
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (folder / "htpasswd").write_text(f"{USER}:{hashed}\n")
    storage = lab.registry_directory / "storage"
    config = json.loads(registry.render_config(storage, f"127.0.0.1:{port}"))
    config["auth"] = {"htpasswd": {"realm": "lab", "path": str(folder / "htpasswd")}}
    (folder / "registry.yml").write_text(json.dumps(config))
    return folder / "registry.yml"


def _start(node, config):
    # The server ends with the tests, however they end.
    command = ["setpriv", "--pdeathsig", "TERM", "docker-registry", "serve", str(config)]
    return subprocess.Popen(
        [*node.inside, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _listens(server, port):
    assert server.poll() is None, "the registry has ended"
    table = Path(f"/proc/{server.pid}/net/tcp").read_text()
    return f":{port:04X} 00000000:0000 0A" in table


def _forget_images(node, host):
    with closing(docker.DockerClient(node.docker_host)) as engine:
        names = [tag for image in engine.images.list() for tag in _names(image)]
        for name in names:
            if name.startswith(host):
                engine.images.remove(name, force=True)


def _names(image):
    return [*image.tags, *(image.attrs.get("RepoDigests") or [])]
