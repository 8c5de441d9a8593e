"""Change a cluster during a computation, and report what the computation lost."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import docker

from bench import computation
from bench.context import container_of

PROGRAM = Path(computation.__file__).read_text()
SECONDS = 240  # for a computation and the change in it


def under_computation(
    docker_host: str,
    workers: int,
    blocks: int,
    tasks: int,
    change: Callable[[], object],
    service: str = "dask_notebook",
) -> dict[str, Any]:
    """Call `change` while `bench.computation` computes, and return its report.

    Its client runs in the container of `service` on the engine `docker_host`. The change must not
    replace that container.
    """
    with closing(docker.DockerClient(docker_host)) as engine, ThreadPoolExecutor() as pool:
        container = container_of(engine, service)
        # Files of an earlier computation must not count for this one.
        _call(container, "rm", "-f", str(computation.COMPUTING), str(computation.CHANGED))
        sizes = [str(size) for size in (workers, blocks, tasks)]
        computing = pool.submit(_call, container, "python", "-c", PROGRAM, *sizes)
        try:
            _call(
                container, "bash", "-c", f"until [ -e {computation.COMPUTING} ]; do sleep .1; done"
            )
            change()
        finally:
            _call(container, "touch", str(computation.CHANGED))
        losses: dict[str, Any] = json.loads(computing.result())
        return losses


def _call(container: Any, *command: str) -> str:  # noqa: ANN401  typed in part only
    # Two streams: distributed logs lost connections while the program ends.
    status, (out, err) = container.exec_run(["timeout", str(SECONDS), *command], demux=True)
    if status:
        text = (err or b"").decode()
        raise RuntimeError(f"{command[0]} in the container ended with {status}:\n{text}")
    return (out or b"").decode()
