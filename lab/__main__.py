"""`python -m lab up|down|status|env|image|ready|lock`.

Results go to standard output, progress to standard error. Exit codes: 0 done, 1 failed, 2 not on
this machine or not by this user.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from docker.errors import DockerException
from requests.exceptions import RequestException

import lab
from config.problems import ConfigError
from lab import cluster, context, single
from lab.config import dev_config
from lab.engine import answers
from lab.layout import Lab, chosen_lab
from lab.shell import LabError, only_one, say


class RefusedError(LabError):
    """The command cannot work on this machine or for this user."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    chosen = _parser().parse_args(arguments)
    # After `su`, root's PATH is the user's and lacks the tools of the system.
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    try:
        chosen.run()
    except RefusedError as error:
        say(str(error))
        return 2
    except (LabError, ConfigError, ValueError, DockerException, RequestException) as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("interrupted. `up` goes on from here, `down` removes the lab")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab", description=lab.__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, command in _COMMANDS.items():
        text = (command.__doc__ or "").rstrip(".")
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=command)
    return parser


def _check_machine() -> None:
    """Raise `RefusedError` where there are no network namespaces or no right to make them."""
    if sys.platform != "linux":
        raise RefusedError(
            "the lab needs Linux network namespaces. On this system, start Docker Desktop and run"
            " `python -m lab ready`"
        )
    if os.geteuid() != 0:
        raise RefusedError(
            "the lab makes network namespaces. Run this as root, or start a Docker engine and run"
            " `python -m lab ready`"
        )


@contextmanager
def _the_lab() -> Iterator[Lab]:
    _check_machine()
    chosen = chosen_lab()
    with only_one(chosen.directory):
        yield chosen


def _up() -> None:
    """Bring up what is missing of the lab, images included."""
    with _the_lab() as chosen:
        cluster.up(chosen)
        say(f"up: export DOCKER_HOST={chosen.docker_host}")


def _down() -> None:
    """Remove every trace of the lab."""
    with _the_lab() as chosen:
        cluster.down(chosen)
        say("down: nothing is left")


def _status() -> None:
    """Print the state of the nodes."""
    _check_machine()
    cluster.check(chosen_lab())


def _env() -> None:
    """Print the shell command that points a Docker client at the lab."""
    print(f"export DOCKER_HOST={chosen_lab().docker_host}")


def _image() -> None:
    """Build the images if they changed and put them on the nodes."""
    with _the_lab() as chosen:
        cluster.provide_images(chosen)


def _ready() -> None:
    """Make the engine of this machine ready for the dev stack, or bring up the lab."""
    manager = _dev_manager()
    if manager.startswith(("ssh://", "tcp://")):
        return  # on another machine: not to be touched
    address = _ready_here()
    if not manager:
        single.link_socket(address)


def _dev_manager() -> str:
    """The manager that the dev stack's config names, if it names any."""
    return str(dev_config().get("dask-swarm:dockerHost", ""))


def _ready_here() -> str:
    this_lab = chosen_lab()
    address = None if answers(this_lab.docker_host) else single.find_engine()
    if address is None:
        _up()
        return this_lab.docker_host
    with only_one(this_lab.directory):
        single.prepare(address, this_lab.registry)
    return address


def _lock() -> None:
    """Renew all locked requirements, with hashes."""
    context.renew_locks()


_COMMANDS: dict[str, Callable[[], None]] = {
    "up": _up,
    "down": _down,
    "status": _status,
    "env": _env,
    "image": _image,
    "ready": _ready,
    "lock": _lock,
}


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the image builder as ^C does
    sys.exit(main())
