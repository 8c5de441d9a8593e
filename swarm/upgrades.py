"""Which images of running services a deployment changes, and what is lost by it; pure."""

from collections.abc import Iterable, Mapping

from config.names import service_name
from config.settings import Settings
from swarm.snapshot import Service

# By the key of the image: the role whose service shows what runs, and the consequence.
_RUNS = {"image": "scheduler", "notebookImage": "notebook"}
_LOST = {
    "image": "scheduler and workers are replaced, and running computations are lost",
    "notebookImage": "the notebook is replaced, and its kernels stop",
}
STAYS = "files, certificates and Prefect's history stay"
DIGEST_DIGITS = 12  # of a digest in a message


def changed_images(
    services: Iterable[Service], cluster: str, images: Mapping[str, str]
) -> dict[str, str]:
    """Return config key to the image that runs, for each service that gets another image.

    `images` is config key to pinned image.
    """
    running = {s["Spec"]["Name"]: _image(s) for s in services}
    runs = {key: running.get(service_name(cluster, _RUNS[key])) for key in images}
    return {key: image for key, image in runs.items() if image and image != images[key]}


def _image(service: Service) -> str:
    return str(service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"])


def warnings(
    changed: Mapping[str, str],
    images: Mapping[str, str],
    versions: Mapping[str, str],
    settings: Settings,
) -> list[str]:
    """Return a warning for each changed image, none without a change.

    `changed` is the result of `changed_images`, `versions` are those at the last proof.
    """
    version = versions.get("distributed")
    before = f" (distributed {version})" if version else ""
    wait = settings.health.idle_deadline
    idle = f" The deployment waits up to {wait} s until no task runs." if wait else ""
    return [
        f"{key}: {_spell(old, images[key])}{before} becomes {_spell(images[key], old)}: "
        f"{_LOST[key]}; {STAYS}.{idle}"
        for key, old in changed.items()
    ]


def _spell(image: str, other: str) -> str:
    """Return an image without its digest, unless only the digest differs from the other's."""
    name, _, digest = image.partition("@")
    if name != other.partition("@")[0] or not digest:
        return name
    return f"{name}@{digest[: digest.find(':') + 1 + DIGEST_DIGITS]}"
