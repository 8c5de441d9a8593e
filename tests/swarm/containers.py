"""The containers of Swarm services on one node, and commands in them."""

from contextlib import closing, contextmanager

import docker


def containers_of(engine, service, **filters):
    """Return the running containers of a service on an engine."""
    label = f"com.docker.swarm.service.name={service}"
    return engine.containers.list(filters={"label": label} | filters)


def container_of(engine, service):
    """Return the only running container of a service on an engine."""
    (container,) = containers_of(engine, service)
    return container


def healthy_ids(engine, service):
    """Return the ids of the healthy containers of a service on an engine."""
    return {container.id for container in containers_of(engine, service, health="healthy")}


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
