"""A record answers the same question only, and is fit to be committed."""

import json
from dataclasses import fields, replace

import pytest

from config.problems import ConfigError
from config.settings import parse_settings
from swarm import site_lock
from swarm.site import Site

DIGEST = "@sha256:" + "a" * 64
NAME = "recorded.prod.json"
SITE = Site(
    image="image:1" + DIGEST,
    notebook_image="notebook:1" + DIGEST,
    caddy_image="caddy:2.11.9" + DIGEST,
    caddy_network_id="network-id",
    ingress_addresses=("10.77.0.11", "127.0.0.1"),
    image_platforms=("linux/amd64", "linux/arm64"),
    notebook_image_platforms=("linux/amd64",),
    caddy_image_platforms=("linux/amd64", "unknown/unknown"),
)


@pytest.fixture
def settings(defaults):
    """Return a function from some values to settings."""
    images = {"image": "image:1", "notebookImage": "notebook:1"}
    return lambda **changed: parse_settings(defaults | images | changed, set(), {})


def used(settings, record):
    """Return the used value of each key."""
    return {value.key: value for value in site_lock.site_from(settings, record, NAME)[1]}


def test_every_fact_of_the_site_can_be_recorded():
    """A new field of `Site` needs an entry in `FACTS` or, if it cannot be seen offline, here."""
    unseen = {"drifted", "held_hash", "logins", "changed_images", "warnings"}
    unseen |= {"replaces_network", "replaces_scheduler"}
    assert {field.name for field in fields(Site)} == {*site_lock.FACTS, *unseen}


@pytest.mark.parametrize(
    ("config", "not_looked_up"),
    [
        ({}, {"caddy_image": None, "caddy_image_platforms": (), "ingress_addresses": ()}),
        (
            {"caddyMode": "managed", "domain": "localhost", "auth": "basic"},
            {"caddy_network_id": None},
        ),
    ],
    ids=["external Caddy", "managed Caddy"],
)
def test_a_record_gives_back_the_site(settings, tmp_path, config, not_looked_up):
    """Everything that was looked up goes through the file unchanged."""
    chosen, site = settings(**config), replace(SITE, **not_looked_up)
    site_lock.write(tmp_path / NAME, site_lock.record_of(chosen, site))
    offline, values = site_lock.site_from(chosen, site_lock.read(tmp_path / NAME), NAME)
    assert site == offline
    assert {f"recorded in {NAME}"} == {value.source for value in values}


def test_people_can_read_the_file(settings, tmp_path):
    """It is sorted, ends with a newline, and holds questions and answers."""
    site_lock.write(tmp_path / NAME, site_lock.record_of(settings(), SITE))
    text = (tmp_path / NAME).read_text()
    assert text.endswith("}\n")
    images = ["image", "imagePlatforms", "notebookImage", "notebookImagePlatforms"]
    assert ["caddyNetworkId", *images] == list(json.loads(text))
    image = {"asked": "image:1 for linux/amd64", "found": "image:1" + DIGEST}
    assert image == json.loads(text)["image"]


def test_the_digest_for_other_platforms_is_another_answer(settings):
    """The order of the list makes no other question."""
    both = settings(platform="linux/arm64,linux/amd64")
    (asked,) = {a["asked"] for k, a in site_lock.record_of(both, SITE).items() if k == "image"}
    assert "image:1 for linux/amd64,linux/arm64" == asked


def test_an_answer_to_another_question_is_not_used(settings):
    """A new tag does not get the old tag's digest; the value has a fix."""
    record = site_lock.record_of(settings(), SITE)
    values = used(settings(image="image:2"), record)
    image = values["image"]
    assert f"not in {NAME}, which has 'image:1 for linux/amd64'" == image.source
    assert ("image:2", "make record STACK=prod") == (image.value, image.fix)
    assert "" == values["notebookImage"].fix


def test_without_a_record_every_value_has_a_fix(settings):
    """The preview still works, and reports the unknown values."""
    site, values = site_lock.site_from(settings(), {}, NAME)
    assert ("image:1", "not-recorded") == (site.image, site.caddy_network_id)
    assert {"make record STACK=prod"} == {value.fix for value in values}


def test_an_image_with_its_digest_needs_no_record(settings):
    """The configured value is right; the platforms of its index must be looked up."""
    chosen = settings(image="image:1" + DIGEST)
    values = used(chosen, {})
    assert ("configured", "") == (values["image"].source, values["image"].fix)
    assert "make record STACK=prod" == values["imagePlatforms"].fix
    record = site_lock.record_of(chosen, SITE)
    assert "image:1" + DIGEST == record["imagePlatforms"]["asked"]
    assert "linux/amd64, linux/arm64" == used(chosen, record)["imagePlatforms"].value


@pytest.mark.parametrize("text", ["", "[]", "{", '{"image": "x"}', '{"image": {"found": "x"}}'])
def test_a_broken_record_is_one_clear_error(tmp_path, text):
    """The message names the file and the command that writes it again."""
    (tmp_path / NAME).write_text(text)
    with pytest.raises(ConfigError, match=rf"{NAME}: not a record(?s:.*)make record STACK=prod"):
        site_lock.read(tmp_path / NAME)


def test_an_outdated_record_names_the_keys(settings):
    """A moved tag shows at the next deployment; without a record nothing is outdated."""
    old = json.loads(json.dumps(site_lock.record_of(settings(), SITE)))
    moved = site_lock.record_of(settings(), replace(SITE, image="image:1@sha256:" + "b" * 64))
    assert ["image"] == site_lock.outdated(old, moved)
    assert [] == site_lock.outdated(old, old)
    assert [] == site_lock.outdated({}, old)
