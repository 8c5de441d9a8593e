"""`make bench`: measure times and costs on the lab, which must be up.

Absolute seconds mean little on a shared machine: quote the ratios within one run.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence

from bench.context import Context, prepared
from bench.cycles import cycles
from bench.deploying import deploying
from bench.engines import engines
from bench.floor import floor
from bench.growth import growth
from bench.ingress import ingress
from bench.over_ssh import over_ssh
from bench.recovery import recovery
from bench.scaling import scaling
from bench.steady import steady
from bench.worker import worker
from bench.working import encryption, working

# A bench yields its tables; the number is its rounds.
BENCHES: dict[str, Callable[[Context, int], Iterator[str]]] = {
    "cycles": cycles,
    "deploy": deploying,
    "encryption": encryption,
    "floor": floor,
    "growth": growth,
    "ingress": ingress,
    "recovery": recovery,
    "ssh": over_ssh,
    "scaling": scaling,
    "steady": steady,
    "work": working,
    "worker": worker,
    "engines": engines,  # last: the nodes keep the newer engine
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benches and print their tables."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=BENCHES, help="one bench instead of all")
    options = parser.parse_args(arguments)
    for name in [options.only] if options.only else BENCHES:
        # Every bench has its own stack, so that it does not depend on the changes of another.
        with prepared() as context:
            for table in BENCHES[name](context, options.rounds):
                print(table, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
