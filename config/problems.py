"""User-facing config problems and the error that lists them.

Owns how a problem looks on a terminal. It knows no setting.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is wrong with one config key, what is expected there, and a command that fixes it."""

    key: str
    found: str
    expected: str
    fix: str

    def __str__(self) -> str:
        """Return the problem as `ConfigError` lists it."""
        return f"{self.key}: {self.found}\n      expected: {self.expected}\n      fix: {self.fix}"


class ProblemError(Exception):
    """A check found a problem; its caller collects the problems of all checks."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class ConfigError(pulumi.RunError):
    """All problems in one message, before anything is changed."""

    def __init__(self, headline: str, problems: Sequence[Problem]) -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "".join(f"\n  - {problem}" for problem in problems)
        super().__init__(f"{headline} ({count}). Nothing was changed.{lines}")
        self.problems = tuple(problems)


def set_command(key: str, example: str) -> str:
    """Return the command that sets a config key; `example` may hold the command's options."""
    names_key = example.startswith(("--path ", "--secret "))
    return f"pulumi config set {example if names_key else f'{key} {example}'}"
