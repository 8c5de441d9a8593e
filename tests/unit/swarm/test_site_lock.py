"""What was recorded of a Swarm is used for the same question alone, and is fit to be committed."""

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
    front_addresses=("10.77.0.11", "127.0.0.1"),
)


@pytest.fixture
def settings(defaults):
    """Return what makes settings of some values."""
    images = {"image": "image:1", "notebookImage": "notebook:1"}
    return lambda **changed: parse_settings(defaults | images | changed, set(), {})


def used(settings, record):
    """Return what is told of each key."""
    return {each.key: each for each in site_lock.site_from(settings, record, NAME)[1]}


def test_every_fact_of_the_site_can_be_recorded():
    """A new field of `Site` says here what it depends on."""
    assert {each.name for each in fields(Site)} == set(site_lock.FACTS)


@pytest.mark.parametrize(
    ("config", "not_looked_up"),
    [
        ({}, {"caddy_image": None, "front_addresses": ()}),
        (
            {"caddyMode": "managed", "domain": "localhost", "auth": "basic"},
            {"caddy_network_id": None},
        ),
    ],
    ids=["an existing Caddy", "a Caddy of its own"],
)
def test_what_was_recorded_comes_back(settings, tmp_path, config, not_looked_up):
    """All that was looked up goes through the file and is the same."""
    chosen, site = settings(**config), replace(SITE, **not_looked_up)
    site_lock.write(tmp_path / NAME, site_lock.record_of(chosen, site))
    found, told = site_lock.site_from(chosen, site_lock.read(tmp_path / NAME), NAME)
    assert site == found
    assert {f"recorded in {NAME}"} == {each.source for each in told}


def test_the_file_is_for_reading(settings, tmp_path):
    """It is sorted, ends with a line, and says what was asked and found."""
    site_lock.write(tmp_path / NAME, site_lock.record_of(settings(), SITE))
    text = (tmp_path / NAME).read_text()
    assert text.endswith("}\n")
    assert ["caddyNetworkId", "image", "notebookImage"] == list(json.loads(text))
    asked = {"asked": "image:1 for linux/amd64", "found": "image:1" + DIGEST}
    assert asked == json.loads(text)["image"]


def test_an_answer_to_another_question_is_not_taken(settings):
    """A new tag does not get the old one's digest; the cure is named."""
    record = site_lock.record_of(settings(), SITE)
    told = used(settings(image="image:2"), record)
    assert f"not in {NAME}, which has 'image:1 for linux/amd64'" == told["image"].source
    assert ("image:2", "make record STACK=prod") == (told["image"].value, told["image"].cure)
    assert "" == told["notebookImage"].cure


def test_without_a_record_every_look_up_is_told(settings):
    """The preview still works, and says what it does not know."""
    found, told = site_lock.site_from(settings(), {}, NAME)
    assert ("image:1", "not-recorded") == (found.image, found.caddy_network_id)
    assert {"make record STACK=prod"} == {each.cure for each in told}


def test_an_image_with_its_digest_needs_no_record(settings):
    """The configured value is the true one."""
    told = used(settings(image="image:1" + DIGEST), {})
    assert ("configured", "") == (told["image"].source, told["image"].cure)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"image": "x"}', '{"image": {"found": "x"}}'])
def test_a_broken_record_is_one_clear_error(tmp_path, text):
    """The file is named, and how to make it anew."""
    (tmp_path / NAME).write_text(text)
    with pytest.raises(ConfigError, match=rf"{NAME}: it is not a record.*make record"):
        site_lock.read(tmp_path / NAME)


def test_a_record_that_is_behind_says_in_what(settings):
    """A moved tag shows at the next deployment; without a record there is nothing to say."""
    now = site_lock.record_of(settings(), SITE)
    moved = site_lock.record_of(settings(), replace(SITE, image="image:1@sha256:" + "b" * 64))
    assert ["image"] == site_lock.outdated(now, moved)
    assert [] == site_lock.outdated(now, now)
    assert [] == site_lock.outdated({}, now)
