"""The containers of Swarm services on one node, and commands in them."""

from contextlib import closing, contextmanager

import docker

from bench.context import container_of, containers_of


def healthy_ids(engine, service):
    """Return the ids of the healthy containers of a service on an engine."""
    return {c.id for c in containers_of(engine, service) if c.health == "healthy"}


@contextmanager
def notebook_container(lab):
    """Yield the container of the deployed notebook."""
    with closing(docker.DockerClient(lab.docker_host)) as engine:
        yield container_of(engine, "dask_notebook")


def run_in(container, *command):
    """Run a command that must succeed in a container, and return its output."""
    status, output = container.exec_run([*command])
    assert 0 == status, output.decode()
    return output.decode()
