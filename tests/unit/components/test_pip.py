"""pip reads from its file the options of the config, and nothing else."""

import json
from configparser import RawConfigParser
from contextlib import suppress

from components import pip
from config.types import pip_options
from tests.hostile import HOSTILE


def read(text):
    """Return the options of a file, read as pip reads it."""
    parser = RawConfigParser()
    parser.read_string(text)
    assert ["global"] == parser.sections()
    return dict(parser["global"])


def test_a_hostile_value_stays_one_option():
    """It starts no other section or option."""
    taken = 0
    for hostile in HOSTILE:
        for value in (hostile, f"https://{hostile}", [hostile, hostile]):
            with suppress(ValueError):
                options = pip_options(json.dumps({"proxy": value, "index-url": "https://i"}))
                assert options == read(pip.render(options))
                taken += 1
    assert taken > 100
