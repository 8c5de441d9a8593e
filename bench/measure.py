"""Measures arms in turns, and makes the table of their seconds."""

import re
import statistics
import sys
from collections.abc import Callable, Sequence

from bench.arms import Arm, done


def measure(
    arms: Sequence[Arm], rounds: int, *, before_each: Callable[[], None] = lambda: None
) -> dict[str, list[float]]:
    """Return the seconds of each arm; the others are compared with the first arm."""
    seconds: dict[str, list[float]] = {arm.name: [] for arm in arms}
    for number in range(1, rounds + 1):
        for arm in arms:
            before_each()
            with done(arm) as taken:
                seconds[arm.name].append(taken)
            print(f"round {number}: {arm.name} {seconds[arm.name][-1]:.1f} s", file=sys.stderr)
    return seconds


def report(title: str, seconds: dict[str, list[float]]) -> str:
    """Return minimum, median and maximum by arm, and the median ratio over the first arm."""
    first = next(iter(seconds.values()))
    lines = [f"{title:48}{'min':>7}{'median':>8}{'max':>7}{'ratio':>7}"]
    for name, values in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(values, first, strict=True))
        middle = statistics.median(values)
        lines.append(f"  {name:46}{min(values):7.1f}{middle:8.1f}{max(values):7.1f}{ratio:7.2f}")
    return "\n".join(lines)


def with_table(page: str, name: str, table: str) -> str:
    """Return a Markdown page with another table between the marks of that name."""
    pattern = rf"(?s)(<!-- {name} -->\n).*(<!-- /{name} -->)"
    return re.sub(pattern, lambda marks: f"{marks[1]}{table}\n{marks[2]}", page)
