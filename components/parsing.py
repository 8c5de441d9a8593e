"""From the text of a config value to a valid value; pure, without Pulumi.

Each function returns the parsed value or raises `ValueError` saying what is allowed. The caller
(`settings.py`) knows the key and adds it, the value and an example.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from packaging.requirements import InvalidRequirement, Requirement

MEMORY_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
PLATFORMS = ("linux/amd64", "linux/arm64")

# The grammar of https://github.com/distribution/reference, with the host optional.
_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?\.)*[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_NAME = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?P<repository>(?:{_HOST}(?::[0-9]+)?/)?{_NAME}(?:/{_NAME})*)"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)

# https://docs.docker.com/reference/cli/docker/service/create/#constraint
_CONSTRAINT = re.compile(
    r"(?P<attribute>node\.(?:id|hostname|role|platform\.(?:os|arch)|labels\.[\w./-]+)"
    r"|engine\.labels\.[\w./-]+)\s*(?P<operator>==|!=)\s*(?P<value>[\w.:/@-]+)",
    re.ASCII,
)

_NETWORK_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")
_DOCKER_HOST = re.compile(r"(?:unix:///\S+|ssh://[^\s/@]+(?:@[^\s/@]+)?|tcp://[^\s/]+:\d+)")


@dataclass(frozen=True, kw_only=True)
class ImageReference:
    """An image as `repository[:tag][@digest]` in familiar form (no `docker.io/library/`)."""

    repository: str
    tag: str | None
    digest: str | None

    def __str__(self) -> str:
        """Return the reference as Docker prints it."""
        tag = f":{self.tag}" if self.tag else ""
        return self.repository + tag + (f"@{self.digest}" if self.digest else "")


@dataclass(frozen=True, kw_only=True)
class Platform:
    """What the images must be made for, e.g. `linux` and `amd64`."""

    os: str
    architecture: str


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return a parser for a whole number from `low` to `high`, both included."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,12}", text) or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return parse


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a parser for one word out of `choices`."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return text

    return parse


def cpus(text: str) -> Decimal:
    """Parse a number of CPUs; Swarm counts in billionths, Docker accepts no less than 0.001."""
    allowed = "a number of CPUs from 0.001 to 512, in quotes because the config knows no fractions"
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError(allowed) from None
    if not number.is_finite() or not Decimal("0.001") <= number <= 512:
        raise ValueError(allowed)
    return number


def memory(text: str) -> int:
    """Parse a size such as `1GiB` or `1.5GiB` into bytes."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(KiB|MiB|GiB|TiB)", text)
    if match is None:
        raise ValueError("a number directly followed by KiB, MiB, GiB or TiB")
    return int(Decimal(match[1]) * MEMORY_UNITS[match[2]])


def memory_from(smallest: str) -> Callable[[str], int]:
    """Return a parser for a size of at least `smallest`."""

    def parse(text: str) -> int:
        size = memory(text)
        if size < memory(smallest):
            raise ValueError(f"at least {smallest}: Dask does not start in less")
        return size

    return parse


def platform(text: str) -> Platform:
    """Parse `os/architecture`."""
    system, _, architecture = one_of(*PLATFORMS)(text).partition("/")
    return Platform(os=system, architecture=architecture)


def image_reference(text: str) -> ImageReference:
    """Parse an image reference; one without tag and digest would mean `latest` and is refused."""
    familiar = text.removeprefix("docker.io/").removeprefix("library/")
    match = _REFERENCE.fullmatch(familiar)
    if match is None or not (match["tag"] or match["digest"]):
        raise ValueError("an image reference with a tag or a digest, repository:tag[@sha256:…]")
    return ImageReference(**match.groupdict())


def placement(text: str) -> tuple[str, ...]:
    """Parse constraints, separated by commas, into their form without spaces; all must be met."""
    return tuple(_constraint(part.strip()) for part in text.split(","))


def _constraint(text: str) -> str:
    match = _CONSTRAINT.fullmatch(text)
    if match is None:
        raise ValueError(
            "constraints such as node.labels.<name>==<value>, node.role==manager or "
            "node.hostname!=<name>, separated by commas"
        )
    if match["attribute"] == "node.role" and match["value"] not in ("manager", "worker"):
        raise ValueError("node.role compared with manager or worker; a label is node.labels.role")
    return "".join(match.groups())


def requirements(text: str) -> tuple[str, ...]:
    """Parse a JSON array of pip requirements, returned without spaces; no URLs, no markers."""
    try:
        return tuple(_requirement(name) for name in _json_array(text))
    except InvalidRequirement:
        raise ValueError(
            "a list of package names, each with an optional version such as s3fs>=2026.1"
        ) from None


def _json_array(text: str) -> list[object]:
    try:
        array = json.loads(text)
    except json.JSONDecodeError:
        raise InvalidRequirement(text) from None
    return array if isinstance(array, list) else [array]


def _requirement(name: object) -> str:
    if not isinstance(name, str):
        raise InvalidRequirement(str(name))
    requirement = Requirement(name)
    if requirement.url or requirement.marker:
        raise InvalidRequirement(name)
    return str(requirement).replace(" ", "")


def network_name(text: str) -> str:
    """Parse the name of a Docker network."""
    if _NETWORK_NAME.fullmatch(text) is None:
        raise ValueError("a network's name of letters, digits, '_', '.' and '-'")
    return text


def docker_host(text: str) -> str:
    """Parse the address of a Swarm manager's Docker engine."""
    if _DOCKER_HOST.fullmatch(text) is None:
        raise ValueError("unix:///path/to/docker.sock, ssh://user@manager or tcp://manager:port")
    return text


def password(text: str) -> str:
    """Parse a password; an empty one means that none was given."""
    if text and (len(text) < 8 or not text.isprintable()):
        raise ValueError("at least 8 printable characters")
    return text


def spell_memory(size: int) -> str:
    """Return `size` bytes in the largest unit that divides them, e.g. `1GiB`, as Dask reads it."""
    for unit, factor in reversed(MEMORY_UNITS.items()):
        if size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"
