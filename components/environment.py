"""The environment variables of work: one Swarm secret that workers and notebook load at start.

Owns the file's format and name. A variable may be a secret, so none is in a service's spec, where
`docker inspect` shows it. The workers' preload and Jupyter's config file read the file.
"""

from collections.abc import Mapping

import pulumi

from components.service import MountedFile, mount_secret

FILE_NAME = "dask_environment"  # in /run/secrets


def declare_environment(
    name: str, variables: Mapping[str, pulumi.Input[str]], opts: pulumi.ResourceOptions
) -> MountedFile | None:
    """Declare `variables` as one Swarm secret; return None if there are none."""
    if not variables:
        return None
    text: pulumi.Output[str] = pulumi.Output.json_dumps(dict(variables), sort_keys=True)
    return mount_secret(name, FILE_NAME, text, opts)
