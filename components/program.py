"""Programs of this project as resources: the machine that deploys runs them.

Owns how a program is started, and the attempt that makes a failed proof run again.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import pulumi
import pulumi_command as command
import pulumi_random as random

PYTHON = ".venv/bin/python"  # Pulumi.yaml names the virtual environment

Event = Literal["create", "delete"]


def declare_program(
    name: str,
    module: str,
    request: pulumi.Input[str],
    *,
    on: Mapping[Event, str],
    triggers: Sequence[pulumi.Input[str]] = (),
    docker_host: str | None = None,
    opts: pulumi.ResourceOptions,
) -> command.local.Command:
    """Declare runs of `module` with `request` on standard input.

    `on` maps each event to the program's arguments. A changed trigger replaces the resource.
    """
    # `exec` lets a cancelled run end the program itself.
    runs = {event: f"exec {PYTHON} -m {module} {args}".rstrip() for event, args in on.items()}
    return command.local.Command(
        name,
        create=runs.get("create"),
        delete=runs.get("delete"),
        stdin=request,
        triggers=list(triggers) or None,
        environment=None if docker_host is None else {"DOCKER_HOST": docker_host},
        logging=command.local.Logging.STDERR,
        add_previous_output_in_env=False,
        opts=opts,
    )


def declare_attempt(
    name: str, keepers: Mapping[str, pulumi.Input[str]], opts: pulumi.ResourceOptions
) -> pulumi.Output[str]:
    """Declare a trigger for a proof: another value whenever one of `keepers` changes.

    A failed proof leaves its old state behind, so the last good config would not be proven again.
    The attempt changes even when the proof then fails.
    """
    return random.RandomId(name, byte_length=8, keepers=keepers, opts=opts).hex
