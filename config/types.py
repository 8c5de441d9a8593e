"""Parsers of config values; pure, without Pulumi.

Each parser returns the value or raises `ValueError` with what is expected. The caller
(`settings.py`) makes a `Problem` of it, with the key and an example.
"""

import json
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from ipaddress import IPv4Network
from typing import TypeVar

from packaging.requirements import InvalidRequirement, Requirement

MEMORY_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
PLATFORMS = ("linux/amd64", "linux/arm64")
BCRYPT_BYTES = 72
LONGEST_PASSWORD = 1000
# A Swarm secret holds 500 KiB, and text that is not ASCII may grow threefold when it is escaped.
LARGEST_OBJECT = 100_000
LARGEST_BUNDLE = 500_000
DEEPEST_OBJECT = 20  # deeper than any real config, and far from Python's recursion limit
LARGEST_MEMORY = "64TiB"
LONGEST_REPOSITORY = 255
# https://docs.docker.com/engine/network/drivers/overlay
MTU_OPTION, ENCRYPTED_OPTION = "com.docker.network.driver.mtu", "encrypted"
DEFAULT_MTU = 1500  # of the network between the nodes; the overlay's is 50 bytes less
SUBNET_LENGTHS = range(8, 29)
# This host, loopback, link-local, multicast and above.
_RESERVED_RANGES = tuple(
    map(IPv4Network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"))
)
OLDEST_CADDY = (2, 11, 2)
OLDEST_DASK = (2026, 1, 1)

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

# Names on the network: https://www.rfc-editor.org/rfc/rfc1123#section-2.1
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME = rf"{_LABEL}(?:\.{_LABEL})*"
_LENGTH = r"(?=[^:/]{1,253}(?:[:/]|$))"  # of a whole name
_SERVICE_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_SERVICE_NAME = rf"{_LENGTH}{_SERVICE_LABEL}(?:\.{_SERVICE_LABEL})*"
_PORT = r":(?P<port>[0-9]{1,5})"
_DOMAIN = re.compile(rf"localhost|(?:{_LABEL}\.)+(?![0-9]+$){_LABEL}", re.ASCII)
_UPSTREAM = re.compile(
    rf"(?P<server>(?:(?P<scheme>https?)://)?{_SERVICE_NAME}(?:{_PORT})?)"
    r"(?P<path>(?:/[A-Za-z0-9._~-]+)*)/?",
    re.ASCII,
)
_OTHER_SCHEMES_PORT = {"http": "443", "https": "80"}  # Caddy takes neither
_HTTPS_URL = re.compile(
    rf"https://(?P<host>{_LENGTH}{_DNS_NAME})(?:{_PORT})?(?:/[A-Za-z0-9._~/-]*)?", re.ASCII
)
_EMAIL = re.compile(rf"[A-Za-z0-9._%+-]{{1,64}}@(?:{_LABEL}\.)+{_LABEL}", re.ASCII)
_IPV6 = r"\[[0-9a-fA-F:]*:[0-9a-fA-F:.]*\]"
# Whatever `Host` may be in ~/.ssh/config; a user may contain '@' (a domain's account).
_SSH_HOST = re.compile(
    rf"ssh://(?:[A-Za-z0-9_][A-Za-z0-9._@+-]*@)?(?:[A-Za-z0-9_][A-Za-z0-9._-]*|{_IPV6})(?:{_PORT})?",
    re.ASCII,
)
# In JSON. pip's proxy needs no "://", and a password may have '/'; digits before '/' are a port.
_LOGIN = re.compile(r'://[^/@\s"]+@|(?:://|[\s"])[^\s"/:=\[]+:(?!//|\d+/)[^\s"]*@')
_PATH = re.compile(r"(?:/[A-Za-z0-9._-]+)+/?", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,63})", re.ASCII)
_LONGEST_DOMAIN = 253 - 64  # leaves room for a label in front of it
_PORTS = range(1, 65536)

_LONGEST_CLUSTER = 25  # so that the names of its tasks are at most 63 characters
_NETWORK_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")
# Docker's own, and the cluster's.
_RESERVED_NETWORKS = ("bridge", "host", "none", "ingress", "docker_gwbridge", "dask-network")
_UNIX_SOCKET = re.compile(r"unix://(?:/[A-Za-z0-9._@+-]+)+", re.ASCII)
_T = TypeVar("_T")
_TCP_HOST = re.compile(rf"tcp://(?:{_SERVICE_NAME}|\[[0-9a-fA-F:]+\]){_PORT}", re.ASCII)


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


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return a parser for a whole number from `low` to `high`, both included."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,12}", text) or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return parse


def yes_or_no(text: str) -> bool:
    """Parse a boolean as Pulumi writes it."""
    if text not in ("true", "false"):
        raise ValueError("true or false")
    return text == "true"


def optional(parse: Callable[[str], _T]) -> Callable[[str], _T | None]:
    """Return a parser that leaves an empty text to the default."""
    return lambda text: parse(text) if text else None


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a parser for one of `choices`."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return text

    return parse


def cpus(text: str) -> Decimal:
    """Parse a number of CPUs; Swarm counts in billionths, Docker accepts no less than 0.001."""
    expected = "a number of CPUs from 0.001 to 512, in quotes because the config has no fractions"
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError(expected) from None
    if not number.is_finite() or not Decimal("0.001") <= number <= 512:
        raise ValueError(expected)
    return number


def memory(text: str) -> int:
    """Parse a size such as `1GiB` or `1.5GiB` into bytes."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(KiB|MiB|GiB|TiB)", text)
    if match is None:
        raise ValueError("a number directly followed by KiB, MiB, GiB or TiB")
    return int(Decimal(match[1]) * MEMORY_UNITS[match[2]])


def memory_from(smallest: str, reason: str) -> Callable[[str], int]:
    """Return a parser for a size of at least `smallest`."""

    def parse(text: str) -> int:
        size = memory(text)
        if size < memory(smallest):
            raise ValueError(f"at least {smallest}: {reason}")
        if size > memory(LARGEST_MEMORY):
            raise ValueError(f"at most {LARGEST_MEMORY}")
        return size

    return parse


def platforms(text: str) -> tuple[str, ...]:
    """Parse platforms, separated by commas, and return each once, in the order of `PLATFORMS`.

    Swarm compares no variants, and its nodes report none: arm64 has v8 only.
    """
    names = {part.strip().replace("arm64/v8", "arm64") for part in text.split(",")}
    if not names <= {*PLATFORMS}:
        raise ValueError(f"one or more of {', '.join(PLATFORMS)}, separated by commas")
    return tuple(platform for platform in PLATFORMS if platform in names)


def image_reference(text: str) -> ImageReference:
    """Parse an image reference; it needs a tag or a digest, since none would mean `latest`."""
    familiar = text.removeprefix("docker.io/").removeprefix("library/")
    match = _REFERENCE.fullmatch(familiar)
    if match is None or not (match["tag"] or match["digest"]):
        raise ValueError("an image reference with a tag or a digest, repository:tag[@sha256:…]")
    if len(match["repository"]) > LONGEST_REPOSITORY:
        raise ValueError(f"a repository of at most {LONGEST_REPOSITORY} characters")
    return ImageReference(**match.groupdict())


def placement(text: str) -> tuple[str, ...]:
    """Parse constraints, separated by commas, and return them without spaces."""
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
    """Parse a JSON array of pip requirements, without URLs and markers; drop their spaces."""
    try:
        return tuple(_requirement(name) for name in _json_array(text))
    except InvalidRequirement:
        raise ValueError(
            "a list of package names, each with an optional version such as s3fs>=2026.1"
        ) from None


def _json_array(text: str) -> list[object]:
    try:
        array = _json(text)
    except ValueError:
        raise InvalidRequirement(text) from None
    return array if isinstance(array, list) else [array]


def _requirement(name: object) -> str:
    if not isinstance(name, str):
        raise InvalidRequirement(str(name))
    requirement = Requirement(name)
    # `===` takes any text as a version, and the official images split the list in a shell.
    if requirement.url or requirement.marker or "===" in name:
        raise InvalidRequirement(name)
    return str(requirement).replace(" ", "")


def network_name(text: str) -> str:
    """Parse the name of a Docker network, neither one of Docker's nor the cluster's own."""
    if _NETWORK_NAME.fullmatch(text) is None:
        raise ValueError("a network's name of letters, digits, '_', '.' and '-'")
    if text in _RESERVED_NETWORKS:
        raise ValueError("another name than " + ", ".join(_RESERVED_NETWORKS))
    return text


def network_names(text: str) -> tuple[str, ...]:
    """Parse a JSON array of the names of different networks."""
    expected = "a list of names of different networks"
    names = _json(text, expected)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(expected)
    if len({*names}) < len(names):
        raise ValueError(expected)
    return tuple(network_name(name) for name in names)


def subnet(text: str) -> str:
    """Parse an IPv4 range such as 192.168.64.0/24; may be empty."""
    if not text:
        return ""
    try:
        network = IPv4Network(text)
    except ValueError:
        network = None
    if network is None or text != str(network) or network.prefixlen not in SUBNET_LENGTHS:
        raise ValueError("the first address and the length of an IPv4 range, /8 to /28") from None
    if any(network.overlaps(reserved) for reserved in _RESERVED_RANGES):
        raise ValueError("a range of addresses that hosts can have")
    return text


def docker_host(text: str) -> str:
    """Parse the address of a Swarm manager's Docker engine."""
    is_socket = _UNIX_SOCKET.fullmatch(text)
    if not (is_socket or _match_address(_TCP_HOST, text) or _match_address(_SSH_HOST, text)):
        raise ValueError("unix:///path/to/docker.sock, ssh://user@manager or tcp://manager:port")
    return text


def _match_address(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """Return the match of an address whose port, if any, exists."""
    match = pattern.fullmatch(text)
    return None if match and match["port"] and int(match["port"]) not in _PORTS else match


def password(text: str) -> str:
    """Parse a password; may be empty. Its reader would drop blanks at its ends."""
    is_long = 8 <= len(text) <= LONGEST_PASSWORD
    if text and not (is_long and text.isprintable() and text == text.strip()):
        raise ValueError(
            f"at least 8 printable characters, at most {LONGEST_PASSWORD}, no blank at either end"
        )
    return text


def short_password(text: str) -> str:
    """Parse a password that bcrypt hashes in full; may be empty."""
    if len(text.encode()) > BCRYPT_BYTES:
        raise ValueError(f"at most {BCRYPT_BYTES} bytes, since bcrypt ignores the rest")
    return password(text)


def domain(text: str) -> str:
    """Parse the domain of the names that are served; may be empty."""
    if text and (len(text) > _LONGEST_DOMAIN or not _DOMAIN.fullmatch(text)):
        raise ValueError(
            "localhost or a domain in small letters such as dask.example.org, without https:// "
            "and without a port; an international domain in its xn-- form"
        )
    return text


def is_local(name: str) -> bool:
    """Return whether a domain is for this machine only."""
    return name == "localhost" or name.endswith(".localhost")


def dns_label(text: str) -> str:
    """Parse the first part of a name, such as `notebook` in notebook.example.org."""
    if not re.fullmatch(_LABEL, text, re.ASCII):
        raise ValueError("one part of a name: small letters, digits and '-' in between, no dot")
    return text


def cluster_name(text: str) -> str:
    """Parse the name of a cluster, which begins the names of its services and its sites."""
    if len(text) > _LONGEST_CLUSTER or not re.fullmatch(_LABEL, text, re.ASCII):
        raise ValueError(
            f"at most {_LONGEST_CLUSTER} small letters, digits and '-' in between, no dot"
        )
    return text


def upstream(text: str) -> str:
    """Parse the address of another service and return it without a slash at its end."""
    match = _UPSTREAM.fullmatch(text)
    if match is None or not _is_upstream(match["scheme"], match["port"], match["path"]):
        raise ValueError(
            "host:port with a port from 1 to 65535, or an http:// or https:// address; no query"
        )
    return text.rstrip("/")


def _is_upstream(scheme: str | None, port: str | None, path: str) -> bool:
    if scheme is None and (port is None or path):
        return False
    if port is None:
        return True
    return int(port) in _PORTS and _OTHER_SCHEMES_PORT.get(scheme or "") != str(int(port))


def split_address(address: str) -> tuple[str, str]:
    """Return the server and the path of an address that `upstream` has parsed."""
    match = _UPSTREAM.fullmatch(address)
    if match is None:
        raise ValueError(f"{address!r} is not the address of a service")
    return match["server"], match["path"]


def https_url(text: str) -> str:
    """Parse an https address and return it without a slash at its end; may be empty."""
    if text and not _match_address(_HTTPS_URL, text):
        raise ValueError("an address that begins with https://, without a query or a password")
    return text.rstrip("/")


def host_of(url: str) -> str:
    """Return the host of an address that `https_url` has parsed."""
    match = _HTTPS_URL.fullmatch(url)
    return match["host"] if match else ""


def http_url(text: str) -> str:
    """Parse an http or https address and return it without a slash at its end; may be empty."""
    plain = text.replace("http://", "https://", 1) if text.startswith("http://") else text
    if text and not _match_address(_HTTPS_URL, plain):
        raise ValueError("an http:// or https:// address, without a query or a password")
    return text.rstrip("/")


def bucket(text: str) -> str:
    """Parse the name of an S3 bucket; may be empty."""
    is_name = re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", text, re.ASCII)
    if text and (not is_name or ".." in text):
        raise ValueError("a bucket's name: 3 to 63 small letters, digits, '.' and '-', no '..'")
    return text


def optional_text(text: str) -> str:
    """Parse a credential of printable characters without blanks; may be empty."""
    if not re.fullmatch(r"[!-~]{0,1000}", text, re.ASCII):
        raise ValueError("one line of at most 1000 printable ASCII characters without blanks")
    return text


def certificates(text: str) -> str:
    """Parse PEM certificates and return them with one line break at the end; may be empty."""
    if not text.strip():
        return ""
    # A Swarm config holds them, which is no place for a key.
    if "PRIVATE KEY" in text or len(text) > LARGEST_BUNDLE:
        raise ValueError(f"certificates alone, no private key, of at most {LARGEST_BUNDLE} bytes")
    try:
        ssl.create_default_context(cadata=text)
    except (ssl.SSLError, ValueError, TypeError):  # the last if it is not ASCII
        raise ValueError("one or more certificates in PEM form, not the path of a file") from None
    return text.strip() + "\n"


def environment_variables(text: str) -> dict[str, str]:
    """Parse a JSON object of environment variables; numbers and booleans become text."""
    variables = _json_object(text, "an object of variable names and texts")
    for name, value in variables.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name, re.ASCII):
            raise ValueError(f"names of letters, digits and '_' (not {name!r})")
        if isinstance(value, dict | list) or value is None or "\0" in str(value):
            raise ValueError(f"a text for each variable (not so for {name!r})")
    return {name: _variable(value) for name, value in variables.items()}


def _variable(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def pip_options(text: str) -> dict[str, str]:
    """Parse a JSON object of pip's options; a list becomes words, as pip reads several values."""
    options = _json_object(text, "an object of pip's options, such as index-url")
    for name in options:
        if not re.fullmatch(r"[a-z][a-z-]*", name, re.ASCII):
            raise ValueError(f"options as pip calls them, such as index-url (not {name!r})")
    return {name: _pip_option(name, value) for name, value in options.items()}


def _pip_option(name: str, value: object) -> str:
    values = value if isinstance(value, list) else [value]
    text = " ".join(item if isinstance(item, str) else json.dumps(item) for item in values)
    # In pip's file a line may begin with neither of these, and its reader drops outer blanks.
    if not re.fullmatch(r"[ -~]+", text, re.ASCII) or text != text.strip() or text[0] in "#;":
        raise ValueError(f"one line of printable ASCII for each option (not so {name!r})")
    return text


def has_login(text: str) -> bool:
    """Return whether a JSON text holds an address with a user or a password."""
    return _LOGIN.search(text.replace('\\"', "'")) is not None


def dask_configuration(text: str) -> dict[str, object]:
    """Parse a JSON object with Dask's configuration."""
    return _json_object(text, "an object as in Dask's own YAML files")


def _json_object(text: str, expected: str) -> dict[str, object]:
    value = _json(text, expected)
    if not isinstance(value, dict):
        raise ValueError(expected)  # noqa: TRY004  as for every other value that is not valid
    return value


def _json(text: str, expected: str = "JSON") -> object:
    """Parse JSON that can be written as UTF-8, JSON and YAML again, and fits a Swarm secret."""
    try:
        value = json.loads(text)
        written = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2).encode()
        depth = _depth(value)
    except (ValueError, RecursionError):
        raise ValueError(expected) from None
    if len(written) > LARGEST_OBJECT or depth > DEEPEST_OBJECT:
        raise ValueError(f"at most {LARGEST_OBJECT} bytes and {DEEPEST_OBJECT} levels")
    return value


def _depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


def ssh_host(text: str) -> str:
    """Parse the SSH address of a host; may be empty."""
    if text and not _match_address(_SSH_HOST, text):
        raise ValueError("ssh://user@host or ssh://user@host:port")
    return text


def absolute_path(text: str) -> str:
    """Parse an absolute path and return it without a slash at its end; may be empty."""
    if text and (not _PATH.fullmatch(text) or ".." in text.split("/")):
        raise ValueError("an absolute path of letters, digits, '.', '_' and '-', without '..'")
    return text.rstrip("/")


def email(text: str) -> str:
    """Parse an e-mail address; may be empty."""
    if text and not _EMAIL.fullmatch(text):
        raise ValueError("an e-mail address such as admin@example.org")
    return text


def word(text: str) -> str:
    """Parse the name of a user or a cookie; `import` is a keyword in a Caddyfile."""
    if not _WORD.fullmatch(text) or text == "import":
        raise ValueError("a name of letters, digits, '.', '_' and '-', but not 'import'")
    return text


def optional_word(text: str) -> str:
    """Parse the name of a user; may be empty."""
    return word(text) if text else text


def caddy_image(text: str) -> ImageReference:
    """Parse an image reference; a tag of a Caddy version with a known hole is not valid."""
    image = image_reference(text)
    if _is_older(image, r"([0-9]+)\.([0-9]+)(?:\.([0-9]+))?", OLDEST_CADDY):
        raise ValueError(
            "Caddy 2.11.2 or newer: older ones let a client's Remote-User through (CVE-2026-30851)"
        )
    return image


def dask_image(text: str) -> ImageReference:
    """Parse an image reference; a tag of a Dask version with a known hole is not valid.

    Other tags than Dask's versions say nothing; the proof asks the containers.
    """
    image = image_reference(text)
    is_dask = image.repository.rpartition("/")[2].startswith("dask")
    if is_dask and _is_older(image, r"(20[0-9]{2})\.([0-9]+)\.([0-9]+)", OLDEST_DASK):
        raise ValueError(
            "Dask 2026.1.1 or newer: older dashboards run a stranger's code (CVE-2026-23528)"
        )
    return image


def _is_older(image: ImageReference, version: str, oldest: tuple[int, ...]) -> bool:
    match = re.match(version, image.tag or "")
    return match is not None and tuple(int(part or 99) for part in match.groups()) < oldest


def spell_memory(size: int) -> str:
    """Return bytes in the largest unit that divides them, e.g. `1GiB`, as Dask reads them."""
    for unit, factor in reversed(MEMORY_UNITS.items()):
        if size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"


def spell_size(number: int) -> str:
    """Return bytes, rounded for a message: `1.5GiB`, `512MiB`, `3.4KiB`; nothing is `0MiB`."""
    unit, factor = ("GiB", 2**30) if number >= 2**30 else ("MiB", 2**20)
    if 0 < number < 2**20:
        unit, factor = "KiB", 2**10
    return f"{number / factor:.4g}{unit}"
