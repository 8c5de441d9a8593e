"""Change a cluster while its notebook computes, and learn what became of the computation."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import docker

from lab import computation

PROGRAM = Path(computation.__file__).read_text()
SECONDS = 240  # for a computation and the change in it


def under_computation(
    docker_host: str, workers: int, blocks: int, tasks: int, change: Callable[[], object]
) -> dict[str, Any]:
    """Call `change` while so many blocks and results are on so many workers, and more to come.

    Return what `lab.computation` tells then. `docker_host` is the notebook's engine.
    """
    with closing(docker.DockerClient(docker_host)) as engine, ThreadPoolExecutor() as pool:
        (notebook,) = engine.containers.list(
            filters={"label": "com.docker.swarm.service.name=dask_notebook"}
        )
        # What an earlier computation has left must not pass for this one's.
        _call(notebook, "rm", "-f", str(computation.COMPUTING), str(computation.CHANGED))
        sizes = [str(each) for each in (workers, blocks, tasks)]
        computing = pool.submit(_call, notebook, "python", "-c", PROGRAM, *sizes)
        try:
            _call(
                notebook, "bash", "-c", f"until [ -e {computation.COMPUTING} ]; do sleep .1; done"
            )
            change()
        finally:
            _call(notebook, "touch", str(computation.CHANGED))
        found: dict[str, Any] = json.loads(computing.result())
        return found


def _call(container: Any, *command: str) -> str:  # noqa: ANN401  typed in part only
    # Apart, because distributed writes of what is lost while the program ends.
    status, (out, err) = container.exec_run(["timeout", str(SECONDS), *command], demux=True)
    if status:
        text = (err or b"").decode()
        raise RuntimeError(f"{command[0]} in the notebook ended with {status}:\n{text}")
    return (out or b"").decode()
