"""Texts that try to leave their place, and configs made of them."""

import json
import random
from functools import cache

import yaml
from hypothesis import strategies as st

from config.settings import declared_settings
from tests.conftest import ROOT

CADDY = (
    *("{env.HOME}", "{$HOME}", "{file./etc/passwd}", "a}\n}\nb {", "a {", "`a`", 'a"b', "import"),
    *("a # b", "a\\\nb", "*", "a\nreverse_proxy b", "{http.request.header.X}", "a b"),
)
SHELL = (
    *("$(id)", "`id`", "a;id", "a\nid", "-rf", "--help", "a b", "a|b", "a&b", "a>b", "$HOME"),
    *("'a'", '"a"', "a\\", "*", "~", "!!", "a\rb"),
)
YAML = ("!!python/object/apply:os.system [id]", "&a [*a]", "a: b", "- a", "? a", "yes", "null")
DNS = (
    *("a" * 64, "a." * 130 + "a", "UPPER.example.org", "münchen.de", "xn--", "-a.b", "a-.b"),
    *("a..b", ".a", "a.", "a_b.c", "localhost.", "[::1]", "127.0.0.1", "a@b", "https://"),
)
INI = ("a\n[other]", "[default]", "a%b", "%(region)s", "#a", ";a", " a ", "a = b", "a\n\tb", "=")
TEXT = ("", " ", "\0", "\n", "\ud800", "\u2028", "\ufeff", "\x1b[31m", "é" * 300, "9" * 5000)
JSON = (
    *("[" * 100_000, '{"a":' * 100_000, "[]", "{}", "null", "NaN", '{"a": NaN}', '{"a": 1e999}'),
    *('{"a": "\\ud800"}', '{"\\ud800": 1}', '{"a": ' + "9" * 5000 + "}", '["a===$HOME"]', '{"a"'),
)
HOSTILE = tuple(dict.fromkeys((*CADDY, *SHELL, *YAML, *DNS, *INI, *TEXT, *JSON)))

PROJECT = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]


DEFAULTS = {
    key: entry["default"] if isinstance(entry["default"], str) else json.dumps(entry["default"])
    for key, entry in PROJECT.items()
}
# Config values that are valid together, so that a hostile text is not always beside a problem.
STACKS = (
    {},
    {"domain": "example.org", "autheliaPortal": "https://auth.example.org"},
    {
        "domain": "example.org",
        "auth": "basic",
        "caddyDirectory": "/srv/sites",
        "clusterName": "blue",
    },
    {"domain": "localhost", "auth": "none", "caddyMode": "managed"},
    {"domain": "example.org", "auth": "basic", "caddyMode": "managed", "acmeEmail": "a@b.org"},
    {"s3AccessKey": "AKIA1", "s3SecretKey": "#s;e%c=r"},
    {"prefect": "managed", "environment": '{"A": "1"}', "daskConfig": '{"array": {"x": [1]}}'},
    {"prefect": "external", "prefectApiUrl": "http://prefect:4200/api"},
)
KEYS = [setting.key for setting in declared_settings()]
# Every hostile text alone, before and after every key's default.
CHANGES = [
    (setting, text)
    for setting in declared_settings()
    for hostile in HOSTILE
    for text in (hostile, hostile + DEFAULTS[setting.key], DEFAULTS[setting.key] + hostile)
]


def is_valid(change):
    """Return whether a key takes a text."""
    setting, text = change
    try:
        setting.parse(text)
    except ValueError:
        return False
    return True


@cache
def mixed_changes():
    """Return keys with texts; most are valid, so that whole configs are valid too."""
    valid = [change for change in CHANGES if is_valid(change)]
    mixed = CHANGES + 2 * valid * (len(CHANGES) // len(valid))
    random.Random(0).shuffle(mixed)  # Hypothesis prefers the first ones
    return [(setting.key, text) for setting, text in mixed]


def configs():
    """Return a strategy for config values: a valid stack with two or three other texts.

    Few draws: Hypothesis takes longer for an example than the program.
    """
    change, any_text = st.sampled_from(mixed_changes()), st.text(max_size=20)
    key = st.sampled_from([*KEYS, *("",) * 2 * len(KEYS)])  # mostly none
    drawn = st.tuples(st.sampled_from(STACKS), change, change, key, any_text)
    return drawn.map(lambda d: d[0] | dict([d[1], d[2]]) | ({d[3]: d[4]} if d[3] else {}))
