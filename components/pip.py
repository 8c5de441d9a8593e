"""pip's configuration: one Swarm secret that pip finds in every container.

Owns the file's format and place. An official image runs pip before the command of a service, so
no variable in the command reaches it. The address of an index may hold a password.
"""

import io
from collections.abc import Mapping
from configparser import RawConfigParser

import pulumi

from components.service import MountedFile, mount_secret

FILE = "/etc/pip.conf"


def declare_pip_config(
    name: str, options: Mapping[str, str], opts: pulumi.ResourceOptions
) -> list[MountedFile]:
    """Declare `options` as one Swarm secret; return it, nothing without options."""
    if not options:
        return []
    return [mount_secret(name, FILE, render(options), opts)]


def render(options: Mapping[str, str]) -> str:
    """Return the file with these options."""
    config, file = RawConfigParser(), io.StringIO()
    config["global"] = dict(sorted(options.items()))
    config.write(file)
    return file.getvalue()
