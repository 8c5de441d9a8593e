"""Running the example notebooks in a deployed notebook's container."""

from contextlib import closing, contextmanager

import docker

from lab.context import SOURCE

EXAMPLES = sorted(path.stem for path in SOURCE.glob("examples/*.ipynb"))
CELL_SECONDS = 180
# With the environment that Jupyter's settings give to every kernel. Nothing is written.
RUN = f"""
import json, os, pathlib, sys
import nbformat
from nbclient import NotebookClient

variables = pathlib.Path("/run/secrets/dask_environment")
if variables.exists():
    os.environ.update(json.loads(variables.read_text()))
path = pathlib.Path.home() / "examples" / f"{{sys.argv[1]}}.ipynb"
notebook = nbformat.read(path, as_version=4)
resources = {{"metadata": {{"path": str(path.parent)}}}}
NotebookClient(notebook, timeout={CELL_SECONDS}, resources=resources).execute()
for cell in notebook.cells:
    for output in cell.get("outputs", []):
        print(output.get("text") or output.get("data", {{}}).get("text/plain", ""))
"""


@contextmanager
def deployed_notebook(lab):
    """Return the container of the notebook that is deployed in the lab."""
    with closing(docker.DockerClient(lab.docker_host)) as engine:
        wanted = {"label": "com.docker.swarm.service.name=dask_notebook"}
        (container,) = engine.containers.list(filters=wanted)
        yield container


def run_example(container, name):
    """Run every cell of an example, and return what they print; fails with a cell's error."""
    status, output = container.exec_run(["python", "-c", RUN, name])
    assert 0 == status, output.decode()
    return output.decode()
