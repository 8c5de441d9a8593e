"""Dask's configuration, as a file that Dask reads in containers of any image.

Owns how the stack's configuration of a service and the user's (`daskConfig`) become one. Files
instead of variables: the provider sends two or more environment variables in random order, which
would restart tasks.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import pulumi
import yaml

from components.service import MountedFile, mount_config

TARGET = "/etc/dask/dask-swarm.yaml"  # https://docs.dask.org/en/stable/configuration.html

Config = Mapping[str, Any]


def merge(ours: Config, users: Config) -> dict[str, Any]:
    """Return both configurations as one; where both set a value, the user's wins.

    As in Dask, `-` and `_` in a key mean the same, and a section of the user's may be None.
    """
    merged = dict(ours)
    names = {_plain(key): key for key in ours}
    for key, value in users.items():
        name = names.get(_plain(key), key)
        old = merged.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping | None):
            merged[name] = merge(old, value or {})
        else:
            merged[name] = value
    return merged


def _plain(key: object) -> str:
    return str(key).replace("_", "-")


def mount_dask_config(
    name: str, layers: Sequence[Config], opts: pulumi.ResourceOptions
) -> MountedFile:
    """Declare the configuration of one service as a Swarm config where Dask looks for it.

    Where several of `layers` set a value, the last wins.
    """
    return mount_config(f"{name}-dask-config", TARGET, render(*layers), opts)


def render(*layers: Config) -> str:
    """Return several configurations as one in YAML."""
    return yaml.safe_dump(reduce(merge, layers), sort_keys=True)
