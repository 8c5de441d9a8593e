"""Running the example notebooks in a deployed notebook's container."""

from lab.context import SOURCE
from tests.swarm.containers import run_in

EXAMPLES = sorted(path.stem for path in SOURCE.glob("examples/*.ipynb"))
CELL_SECONDS = 180
# Sets the environment as Jupyter's settings do for every kernel. The example stays unchanged.
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


def run_example(container, name):
    """Run all cells of an example, which must not fail, and return their output."""
    return run_in(container, "python", "-c", RUN, name)
