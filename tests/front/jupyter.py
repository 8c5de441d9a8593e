"""A real JupyterLab on this machine, with the versions and settings of the image."""

import json
import os
import re
import subprocess
import sys
import tempfile
from http.client import HTTPConnection
from pathlib import Path

from components.notebook import CONFIG_SOURCE, notebook_args
from lab.shell import only_one
from tests.conftest import ROOT, wait_for

LOCK = ROOT / "images" / "notebook.txt"
START_SECONDS = 60
SECRETS = {
    "front_key": "front-key",
    "notebook_token": "jupyter-token",
    "dask_environment": json.dumps({"GREETING": "hello"}),
}


def find_jupyter():
    """Return the Python of an environment with JupyterLab; make the environment if needed."""
    versions = re.findall(r"^([a-z0-9-]+==[^ ;\\]+)", LOCK.read_text(), re.MULTILINE)
    (version,) = [name for name in versions if name.startswith("jupyterlab==")]
    place = ROOT / ".lab" / version.replace("==", "-")
    with only_one(place):
        if not place.exists():
            _install(place, versions)
    return place / "bin" / "python"


def _install(place, versions):
    place.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        made, constraints = Path(folder) / "made", Path(folder) / "constraints.txt"
        constraints.write_text("\n".join(versions))
        subprocess.run([sys.executable, "-m", "venv", made], check=True)
        pip = [made / "bin" / "python", "-m", "pip", "install", "--quiet", "-c", constraints]
        subprocess.run([*pip, "jupyterlab", "ipykernel"], check=True)
        made.rename(place)


# An extension whose author forgot the login.
EXTENSION = """
from jupyter_server.base.handlers import JupyterHandler

class Handler(JupyterHandler):
    def get(self):
        self.finish("open")

def _jupyter_server_extension_points():
    return [{"module": "careless"}]

def _load_jupyter_server_extension(app):
    app.web_app.add_handlers(".*$", [("/careless", Handler)])
"""


class Jupyter:
    """A running JupyterLab with its own Swarm secrets, in a folder."""

    def __init__(self, python, folder, port, secrets, cluster_network="0.0.0.0/0"):
        self.port, self.folder = port, folder
        (folder / "secrets").mkdir(parents=True, exist_ok=True)
        for name, text in secrets.items():
            (folder / "secrets" / name).write_text(text)
        (folder / "subnets.json").write_text(json.dumps([cluster_network]))
        self.config = folder / "jupyter_server_config.py"
        self.config.write_text(self._settings())
        (folder / "careless.py").write_text(EXTENSION)
        _, module, _, _ = notebook_args()
        self.log = (folder / "jupyter.log").open("w")
        self.process = subprocess.Popen(
            [python, "-m", f"jupyter{module}", "--allow-root", "--config", self.config],
            cwd=folder, env=os.environ | {"HOME": str(folder), "PYTHONPATH": str(folder)},
            stdout=self.log, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def _settings(self):
        """Return the container's settings with paths and ports of this machine."""
        text = CONFIG_SOURCE.read_text()
        local = {
            "/run/secrets": f"{self.folder}/secrets",
            "/etc/dask-swarm": str(self.folder),
            "8888": str(self.port),
        }
        for original, replacement in local.items():
            assert original in text
            text = text.replace(original, replacement)
        return text + "c.ServerApp.jpserver_extensions = {'careless': True}\n"

    def wait(self):
        """Wait until JupyterLab answers."""
        wait_for("answer from JupyterLab", self.answers, START_SECONDS)
        return self

    def answers(self):
        """Return whether JupyterLab answers."""
        assert self.process.poll() is None, self.read_log()
        return self.ask("/api") == 200

    def ask(self, path, headers=None, method="GET"):
        """Send a request to the notebook's own port and return the answer's status."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=15)
        try:
            connection.request(method, path, headers=headers or {})
            with connection.getresponse() as answer:
                return answer.status
        except ConnectionError:
            return 0
        finally:
            connection.close()

    def read_log(self):
        return (self.folder / "jupyter.log").read_text()

    def close(self):
        self.process.terminate()
        self.process.wait(20)
        self.log.close()
