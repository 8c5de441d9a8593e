"""What is wrong, as whoever runs the program is told it; it knows no setting.

Owns: the form of a problem, which names the key, what was found, what is allowed and a command
that cures it, and the error that lists all problems at once.
"""

import re

import pulumi


class ConfigError(pulumi.RunError):
    """One message that lists everything wrong with a configuration, before anything is touched."""

    def __init__(self, headline: str, problems: list[str]) -> None:
        lines = "".join(f"\n  - {problem}" for problem in problems)
        super().__init__(f"{headline}; nothing was touched.{lines}")


def complaint(key: str, found: str, allowed: str, example: str) -> str:
    """Return one problem in the form that all of them have."""
    return f"{key}: {found}. Allowed is {allowed}. Example: {example}"


def set_command(key: str, example: str) -> str:
    """Return the command that sets a config key, whose options `example` may bring along."""
    named = key in re.findall(r"\w+", example)
    return f"pulumi config set {example if named else f'{key} {example}'}"
