"""What several suites share: the defaults that `Pulumi.yaml` gives each config key."""

import asyncio
import json
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from hypothesis import settings

from lab.caddy import find_caddy

# How long an example takes says nothing about whether it is right.
settings.register_profile("any-machine", deadline=None)
settings.load_profile("any-machine")

ROOT = Path(__file__).parent.parent


def run_async(coroutine):
    """Return the result of a coroutine.

    Not asyncio.run: it leaves this thread without an event loop, and Pulumi's SDK expects one.
    """
    with closing(asyncio.new_event_loop()) as loop:
        return loop.run_until_complete(coroutine)


@pytest.fixture
def project():
    """Return `Pulumi.yaml` as plain data."""
    return yaml.safe_load((ROOT / "Pulumi.yaml").read_text())


@pytest.fixture
def defaults(project):
    """Return the default of every config key as the engine hands it to a program: as text."""
    values = {key: declared["default"] for key, declared in project["config"].items()}
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items()}


@pytest.fixture(scope="session")
def real_caddy():
    """Return the path of a current Caddy, which a new machine has to fetch first."""
    return find_caddy()
