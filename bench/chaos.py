"""`make chaos`: strike a deployed cluster with every fault, and write docs/recovery.md.

A computation runs meanwhile. Each row has the seconds until four workers compute again, and what
the computation's user sees.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from docker import DockerClient

from bench import pages
from bench.arms import succeed
from bench.context import Context, configure, prepared
from bench.cycles import residue, wait_until_gone
from bench.faults import FAULTS, SECONDS, Fault, restart_manager
from bench.measure import with_table
from bench.recovery import WORKERS, seconds_after
from bench.under_computation import under_computation
from lab.layout import Lab
from lab.services import login_service
from lab.shell import wait_for
from tools.runners import ROOT

PAGE = ROOT / "docs" / "recovery.md"
RIGHT = "right"
LOST = "ends with its client"
DURING_UP = "the manager loses power during an `up`"
BLOCKS, TASKS = 8, 16

Row = tuple[str, str, str]


def strike(lab: Lab, fault: Fault) -> tuple[float, str]:
    """Strike the cluster during a computation; return the seconds and the computation's end."""
    seconds: list[float] = []

    def recover() -> None:
        wait = pages.seconds_until_served if fault.closes_pages else seconds_after
        seconds.append(wait(lab, fault))

    try:
        report = under_computation(lab.docker_host, WORKERS, BLOCKS, TASKS, recover)
        end = RIGHT if report["right"] else "WRONG"
    except Exception as error:
        if not seconds:
            raise
        end = LOST if fault.loses_client else last_line(error)
    return seconds[0], end


def restart_manager_during_up(context: Context, number: int) -> tuple[float, str]:
    """Cut the manager's power while an `up` proves a change, and run `up` until it succeeds.

    Returns the seconds from the fault until the cluster is proven, and how the first `up` ended.
    """
    configure(context.config_file, {"workerThreads": 2 - number % 2})
    with ThreadPoolExecutor() as pool:
        struck = pool.submit(_restart_manager_with_probe, context.lab)
        done = context.runner.run("up", capture=True)
        start = struck.result()
    if not done.returncode:
        return time.monotonic() - start, "the `up` succeeds"
    print(done.stdout, done.stderr, file=sys.stderr)
    succeed(context.runner, "up")
    return time.monotonic() - start, "the `up` fails, the next `up` succeeds"


def _restart_manager_with_probe(lab: Lab) -> float:
    """Cut the manager's power once the probe runs, and return when."""
    with closing(DockerClient(lab.docker_host)) as manager:
        wait_for(
            "start of the probe",
            lambda: any("health" in service.name for service in manager.services.list()),
            seconds=SECONDS,
        )
    start = time.monotonic()
    restart_manager(lab)
    return start


def last_line(error: Exception) -> str:
    """Return the last line of an error, which has its reason."""
    return str(error).strip().splitlines()[-1]


def measure(context: Context, only: str, rounds: int) -> list[Row]:
    """Deploy a cluster with pages, and return a row for each fault whose name has `only` in it."""
    before = residue(context.lab)
    configure(context.config_file, pages.config(context.lab))
    with login_service(context.lab), context.deployed(context.stacks[-1]):
        rows = [
            row(fault.what, [strike(context.lab, fault) for _ in range(rounds)])
            for fault in FAULTS
            if only in fault.what
        ]
        if only in DURING_UP:
            ends = [restart_manager_during_up(context, number) for number in range(rounds)]
            rows.append(row(DURING_UP, ends))
    wait_until_gone(context.lab, before)
    return rows


def row(what: str, struck: Sequence[tuple[float, str]]) -> Row:
    """Print all rounds of a fault, and return the median of the seconds and all ends."""
    print(f"{what}: {struck}", file=sys.stderr, flush=True)
    middle = statistics.median(seconds for seconds, _ in struck)
    return what, f"{middle:.1f}", "; ".join(dict.fromkeys(end for _, end in struck))


def table(rows: Sequence[Row], rounds: int) -> str:
    """Return the rows as Markdown."""
    header = ("Fault", f"Seconds to four workers, median of {rounds}", "The computation")
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write(page: Path, text: str) -> None:
    """Replace the table of a page."""
    new = with_table(page.read_text(encoding="utf-8"), "recovery", text)
    page.write_text(new, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Strike, print the table, and write it into the documentation."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="a part of the fault's name; writes no page")
    options = parser.parse_args(arguments)
    with prepared() as context:
        text = table(measure(context, options.only, options.rounds), options.rounds)
    print(text)
    if not options.only:
        write(PAGE, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
