"""Hostile config values in the Caddyfile, as a real Caddy reads it."""

import json
import re
import subprocess
from collections import Counter

import pytest

from caddy.caddyfile import bcrypt_hash, fragments, options
from components.ingress import caddyfile_values
from config.problems import ConfigError
from config.settings import parse_settings
from tests.hostile import DEFAULTS, HOSTILE
from tests.unit.caddy.test_caddyfile import write

SECRETS = {"basicPassword"}
HASH = bcrypt_hash("correct horse", "0123456789abcdef" * 2)
BASE = {
    "domain": "example.org",
    "caddyMode": "managed",
    "acmeEmail": "admin@example.org",
    "prefect": "managed",
}
AUTHELIA = BASE | {
    "autheliaPortal": "https://auth.example.org",
    "autheliaEndpoint": "/api/verify",
}
BASIC = BASE | {"auth": "basic"}
# Config key to a stack that uses it and a valid value that occurs nowhere else.
PLACES = {
    "domain": (BASIC, "neutral.org"),
    "notebookName": (BASIC, "neutral"),
    "dashboardName": (BASIC, "neutral"),
    "prefectName": (BASIC, "neutral"),
    "basicUser": (BASIC, "neutral"),
    "acmeEmail": (BASIC, "neutral@example.com"),
    "acmeDirectory": (BASIC, "https://neutral.example.com"),
    "autheliaAddress": (AUTHELIA, "neutral:9091"),
    "autheliaPortal": (AUTHELIA, "https://neutral.example.com"),
    "autheliaCookie": (AUTHELIA, "neutral"),
}
# What the settings accept beside the hostile texts that they do.
ODD = {
    "notebookName": ("import", "xn--9", "a" * 63),
    "dashboardName": ("import", "0"),
    "prefectName": ("log",),
    "domain": ("import.log", "xn--9.a"),
    "basicUser": ("log", "Import", "a.b-c_d"),
    "acmeEmail": ("import%+@a.b",),
    "acmeDirectory": ("https://a.b:1/..//~a",),
    "autheliaAddress": ("import:1", "a_b.c:65535"),
    "autheliaPortal": ("https://a.b/~",),
    "autheliaCookie": ("a-b", "a.b.c", "log"),
}


def accepted(config):
    """Return the settings of a config, or None if it is refused."""
    try:
        return parse_settings(DEFAULTS | config, SECRETS, {})
    except ConfigError:
        return None


@pytest.fixture
def adapt(real_caddy, tmp_path):
    """Return a function from settings to the JSON of their Caddyfile."""

    def adapt_settings(settings):
        values = caddyfile_values(settings, settings.ingress)
        main = write(tmp_path, options(values) | fragments(values, HASH))
        command = [real_caddy, "adapt", "--adapter", "caddyfile", "--config", main]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stderr
        # Caddy numbers the logs of the sites by the order of their names.
        return json.loads(re.sub(r'"log[0-9]"', '"log"', done.stdout))

    return adapt_settings


def leaves(value, path=()):
    """Return every text and number of a JSON value with its keys; the order does not matter."""
    if isinstance(value, dict):
        return sum((leaves(inner, (*path, key)) for key, inner in value.items()), Counter())
    if isinstance(value, list):
        return sum((leaves(inner, path) for inner in value), Counter())
    return Counter([(path, str(value))])


@pytest.mark.parametrize("key", PLACES)
def test_a_hostile_value_stays_in_its_place(adapt, key):
    """Caddy reads the same config as with another value, but for the value; or it is refused."""
    stack, neutral = PLACES[key]
    plain = leaves(adapt(accepted(stack | {key: neutral})))
    assert any(neutral in text for _, text in plain)
    for value in filter(None, (*HOSTILE, *ODD[key])):
        settings = accepted(stack | {key: value})
        if settings is None:
            assert value not in ODD[key]
            continue
        written = value.replace(".", "[.]") if key == "autheliaCookie" else value
        expected = Counter()
        for (path, text), count in plain.items():
            keys = tuple(key.replace(neutral, written) for key in path)
            expected[keys, text.replace(neutral, written)] += count
        assert expected == leaves(adapt(settings)), value
