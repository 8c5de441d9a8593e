"""What a deployment replaces of the running services, and what is lost by it; pure."""

import hashlib
import json
from collections.abc import Iterable, Mapping

from config.names import service_name
from config.settings import Settings
from config.workloads import START_SECONDS
from swarm.snapshot import Service

SCHEDULER_LABEL = "dask.swarm/scheduler"  # of the scheduler's service, with `scheduler_hash`
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
    # A service of another stack may run a plugin instead of a container.
    container = service["Spec"].get("TaskTemplate", {}).get("ContainerSpec") or {}
    return str(container.get("Image", ""))


def scheduler_hash(settings: Settings) -> str:
    """Return 16 hexadecimal digits of the settings whose change replaces the scheduler's task.

    Of images and networks the Swarm shows what is deployed. The values of `pipConfig` do not
    count: they may be secrets, and a label shows the hash.
    """
    store, packages = settings.object_store, settings.cluster.packages
    values = {
        "packages": packages,
        # A container that installs packages has that long for it.
        "seconds": max(settings.health.deadline if packages else 0, START_SECONDS),
        "pip": sorted(settings.cluster.pip_config),
        "size": [settings.scheduler.cpus, settings.scheduler.memory],
        "dask": settings.shared.dask_config,
        "tls": [settings.tls.on, settings.tls.scheduler_ca if settings.tls.on else 0],
        "caddy": [settings.caddy.mode, settings.caddy.mode != "none" and settings.caddy.network],
        "s3": store and [store.endpoint, store.region, store.path_style, store.ca_bundle],
    }
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def replaces_scheduler(services: Iterable[Service], cluster: str, declared_hash: str) -> bool:
    """Return whether the running scheduler was deployed with another hash of its settings.

    A scheduler of an earlier version of this program has none, and counts as the same.
    """
    name = service_name(cluster, "scheduler")
    labels = [s["Spec"].get("Labels") or {} for s in services if s["Spec"]["Name"] == name]
    return any(known.get(SCHEDULER_LABEL, declared_hash) != declared_hash for known in labels)


def warnings(
    changed: Mapping[str, str],
    images: Mapping[str, str],
    versions: Mapping[str, str],
    *,
    scheduler: bool,
    idle_seconds: int,
) -> list[str]:
    """Return a warning for each changed image, and for a `scheduler` that is replaced without.

    `changed` is the result of `changed_images`, `versions` are those at the last proof.
    """
    version = versions.get("distributed")
    before = f" (distributed {version})" if version else ""
    losses = [
        f"{key}: {_spell(old, new)}{before} becomes {_spell(new, old)}: {_LOST[key]}"
        for key, old in changed.items()
        for new in [images[key]]
    ]
    if scheduler and "image" not in changed:
        losses.append("the scheduler is replaced, and running computations are lost")
    wait = f" The deployment waits up to {idle_seconds} s until no task runs."
    return [f"{loss}; {STAYS}.{wait if idle_seconds else ''}" for loss in losses]


def _spell(image: str, other: str) -> str:
    """Return an image without its digest, unless only the digest differs from the other's."""
    name, _, digest = image.partition("@")
    if name != other.partition("@")[0] or not digest:
        return name
    return f"{name}@{digest[: digest.find(':') + 1 + DIGEST_DIGITS]}"
