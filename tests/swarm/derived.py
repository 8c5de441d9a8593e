"""Images with one fault each, made from the lab's images without a build."""

from contextlib import closing

import docker

FAKE = """
import importlib.metadata
(metadata,) = [f for f in importlib.metadata.files("distributed") if f.name == "METADATA"]
path = metadata.locate()
path.write_text(path.read_text().replace("\\nVersion: ", "\\nVersion: 9999.1+", 1))
"""
NOWHERE = "sha256:" + "0" * 64


def with_other_version(docker_host, image):
    """Return an image in the registry that differs from `image` in distributed's version alone."""
    return _derived(docker_host, image, "other-version", {}, FAKE)


def rebuilt(docker_host, image):
    """Return an image in the registry that differs from `image` in its digest alone."""
    return _derived(docker_host, image, "rebuilt", {"Labels": {"rebuilt": "yes"}})


def that_dies(docker_host, image):
    """Return an image in the registry whose program prints an error and ends at once."""
    program = "echo no stomach for this >&2; exit 3"
    return _derived(docker_host, image, "dies", {"Entrypoint": ["sh", "-c", program]})


def that_never_works(docker_host, image):
    """Return an image in the registry whose program runs but never answers."""
    entrypoint = {"Entrypoint": ["sh", "-c", "echo asleep; exec sleep 600"]}
    return _derived(docker_host, image, "sleeps", entrypoint)


def _derived(docker_host, image, tag, conf, program="pass"):
    repository = image.partition("@")[0].rpartition(":")[0]
    with closing(docker.DockerClient(docker_host)) as engine:
        container = engine.containers.run(image, ["python", "-c", program], user="0", detach=True)
        try:
            assert 0 == container.wait(timeout=60)["StatusCode"], container.logs().decode()
            container.commit(repository, tag, conf={"User": "1000:1000"} | conf)
        finally:
            container.remove(force=True)
        engine.images.push(repository, tag)
        digest = engine.images.get_registry_data(f"{repository}:{tag}").id
    return f"{repository}:{tag}@{digest}"
