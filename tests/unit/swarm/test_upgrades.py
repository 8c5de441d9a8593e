"""Which images of running services change, and the warning about it."""

import pytest

from swarm.upgrades import SCHEDULER_LABEL, changed_images, replaces_scheduler, warnings

OLD, NEW = (
    "host:5000/dask:2026.7.1@sha256:" + "a" * 64,
    "host:5000/dask:2026.8.0@sha256:" + "b" * 64,
)
REBUILT = "host:5000/dask:2026.7.1@sha256:" + "c" * 64


def services(cluster="dask", **images):
    return [
        {
            "Spec": {
                "Name": f"{cluster}_{role}",
                "TaskTemplate": {"ContainerSpec": {"Image": image}},
            }
        }
        for role, image in images.items()
    ]


def warned(changed, images, versions=None, *, scheduler=False, idle=0):
    return warnings(changed, images, versions or {}, scheduler=scheduler, idle_seconds=idle)


@pytest.mark.parametrize(
    ("image", "notebook_image", "changed"),
    [
        (OLD, OLD, {}),
        (NEW, OLD, {"image": OLD}),
        (OLD, NEW, {"notebookImage": OLD}),
        (REBUILT, NEW, {"image": OLD, "notebookImage": OLD}),
    ],
)
def test_an_image_that_a_running_service_gets_is_found(image, notebook_image, changed):
    """With the image that runs now."""
    images = {"image": image, "notebookImage": notebook_image}
    running = services(scheduler=OLD, notebook=OLD, worker=OLD)
    assert changed == changed_images(running, "dask", images)


def test_a_first_deployment_changes_no_image():
    """Another cluster on the Swarm does not count."""
    running = services(cluster="blue", scheduler=OLD, notebook=OLD)
    assert {} == changed_images(running, "dask", {"image": NEW, "notebookImage": NEW})


def test_the_warning_has_the_loss_and_what_stays():
    """With the version that runs, and how long the deployment waits for computations."""
    (text,) = warned({"image": OLD}, {"image": NEW}, {"distributed": "2026.7.1"}, idle=60)
    assert (
        "image: host:5000/dask:2026.7.1 (distributed 2026.7.1) becomes host:5000/dask:2026.8.0: "
        "scheduler and workers are replaced, and running computations are lost; files, "
        "certificates and Prefect's history stay. "
        "The deployment waits up to 60 s until no task runs."
    ) == text


def test_images_with_the_same_tag_differ_by_digest():
    """A tag moves when an image is built again."""
    (text,) = warned({"notebookImage": OLD}, {"notebookImage": REBUILT})
    before, after = f"2026.7.1@sha256:{'a' * 12} ", f"2026.7.1@sha256:{'c' * 12}: "
    assert before in text
    assert after in text
    assert "its kernels stop" in text
    assert "waits" not in text


@pytest.mark.parametrize(
    ("label", "replaced"),
    [
        ({SCHEDULER_LABEL: "new"}, False),
        ({SCHEDULER_LABEL: "old"}, True),
        ({}, False),
        (None, False),
    ],
)
def test_a_scheduler_with_other_settings_is_replaced(label, replaced):
    """One without a label is of an earlier version of the program."""
    (service,) = services(scheduler=OLD)
    service["Spec"]["Labels"] = label
    other = {"Spec": {"Name": "dask_worker", "Labels": {SCHEDULER_LABEL: "old"}}}
    assert replaced == replaces_scheduler([service, other], "dask", "new")


def test_a_scheduler_that_is_replaced_for_another_reason_is_named():
    """Once: the warning of a changed image has it already."""
    (text,) = warned({}, {}, scheduler=True)
    assert text.startswith("the scheduler is replaced, and running computations are lost; files")
    assert 1 == len(warned({"image": OLD}, {"image": NEW}, scheduler=True))
    assert 2 == len(warned({"notebookImage": OLD}, {"notebookImage": NEW}, scheduler=True))
