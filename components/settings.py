"""The settings of a stack: every config key read, checked and typed, in one place.

Owns: which keys there are, what each may hold, and how they must fit together. All errors are
collected and reported at once, before any resource is registered. It does not ask the Swarm
anything; `lookup.py` does.

A field's config key is its name in camelCase; `Pulumi.yaml` holds its description and default.
"""

import difflib
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any, get_args, get_type_hints

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env, is_config_secret

from components.complaints import ConfigError, complaint, set_command
from components.parsing import (
    ImageReference,
    Platform,
    absolute_path,
    caddy_image,
    cpus,
    dns_label,
    docker_host,
    domain,
    email,
    host_of,
    host_port,
    https_url,
    image_reference,
    memory_from,
    network_name,
    one_of,
    optional_word,
    password,
    placement,
    platform,
    requirements,
    short_password,
    ssh_host,
    whole_number,
    word,
    yes_or_no,
)

# Measured: the memory of a worker at rest; in less the kernel kills it while it starts.
SMALLEST_MEMORY = "256MiB"
SMALLEST_CPU_PER_THREAD = Decimal("0.25")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a config value is parsed, and how one that is right is set."""

    parse: Callable[[str], Any]
    example: str
    secret: bool = False


_CPUS = Setting(parse=cpus, example="0.5")
_MEMORY = Setting(parse=memory_from(SMALLEST_MEMORY), example="1GiB")
_COUNT = Setting(parse=whole_number(1, 1000), example="2")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one stack; sizes in bytes, CPUs as exact decimals, times in seconds."""

    docker_host: Annotated[str, Setting(parse=docker_host, example="ssh://deploy@manager")]
    platform: Annotated[Platform, Setting(parse=platform, example="linux/amd64")]
    image: Annotated[
        ImageReference,
        Setting(parse=image_reference, example="ghcr.io/dask/dask:2026.7.1-py3.12"),
    ]
    notebook_image: Annotated[
        ImageReference,
        Setting(parse=image_reference, example="ghcr.io/dask/dask-notebook:2026.7.1-py3.12"),
    ]
    extra_pip_packages: Annotated[
        tuple[str, ...],
        Setting(parse=requirements, example="--path 'extraPipPackages[0]' prefect"),
    ]

    workers: Annotated[int, _COUNT]
    workers_per_node: Annotated[int, _COUNT]
    worker_threads: Annotated[int, _COUNT]
    worker_cpus: Annotated[Decimal, _CPUS]
    worker_memory: Annotated[int, _MEMORY]
    worker_placement: Annotated[
        tuple[str, ...],
        Setting(parse=placement, example="node.labels.role==data-worker"),
    ]

    scheduler_cpus: Annotated[Decimal, _CPUS]
    scheduler_memory: Annotated[int, _MEMORY]
    notebook_cpus: Annotated[Decimal, _CPUS]
    notebook_memory: Annotated[int, _MEMORY]
    notebook_password: Annotated[
        str, Setting(parse=password, example="--secret notebookPassword", secret=True)
    ] = field(repr=False)
    notebook_login: Annotated[bool, Setting(parse=yes_or_no, example="true")]
    control_placement: Annotated[
        tuple[str, ...], Setting(parse=placement, example="node.labels.role==master")
    ]

    caddy_mode: Annotated[
        str, Setting(parse=one_of("external", "managed", "none"), example="external")
    ]
    caddy_network: Annotated[str, Setting(parse=network_name, example="caddy-network")]
    caddy_image: Annotated[ImageReference, Setting(parse=caddy_image, example="caddy:2.11.9")]
    caddy_directory: Annotated[
        str,
        Setting(
            parse=absolute_path,
            example="/srv/caddy/sites",
        ),
    ]
    caddy_host: Annotated[str, Setting(parse=ssh_host, example="ssh://deploy@edge")]
    caddy_service: Annotated[str, Setting(parse=optional_word, example="edge_caddy")]
    caddy_main_file: Annotated[str, Setting(parse=absolute_path, example="/etc/caddy/Caddyfile")]
    domain: Annotated[str, Setting(parse=domain, example="dask.example.org")]
    notebook_name: Annotated[str, Setting(parse=dns_label, example="notebook")]
    dashboard_name: Annotated[str, Setting(parse=dns_label, example="dashboard")]
    auth: Annotated[str, Setting(parse=one_of("authelia", "basic", "none"), example="authelia")]
    authelia_address: Annotated[str, Setting(parse=host_port, example="authelia:9091")]
    authelia_portal: Annotated[str, Setting(parse=https_url, example="https://auth.example.org")]
    authelia_endpoint: Annotated[
        str,
        Setting(
            parse=one_of("/api/authz/forward-auth", "/api/verify"),
            example="/api/authz/forward-auth",
        ),
    ]
    authelia_cookie: Annotated[str, Setting(parse=word, example="authelia_session")]
    authelia_user: Annotated[str, Setting(parse=optional_word, example="probe")]
    authelia_password: Annotated[
        str, Setting(parse=password, example="--secret autheliaPassword", secret=True)
    ] = field(repr=False)
    basic_user: Annotated[str, Setting(parse=word, example="dask")]
    basic_password: Annotated[
        str, Setting(parse=short_password, example="--secret basicPassword", secret=True)
    ] = field(repr=False)
    acme_email: Annotated[str, Setting(parse=email, example="admin@example.org")]
    acme_directory: Annotated[
        str,
        Setting(parse=https_url, example="https://acme-v02.api.letsencrypt.org/directory"),
    ]
    health_deadline: Annotated[int, Setting(parse=whole_number(10, 3600), example="300")]

    @property
    def has_front(self) -> bool:
        """Whether notebook and dashboard get names of their own."""
        return self.caddy_mode != "none" and bool(self.domain)

    @property
    def proves_front(self) -> bool:
        """Whether the deployment itself brings the front about, and so has to prove it."""
        return self.has_front and (self.caddy_mode == "managed" or self.delivers)

    @property
    def delivers(self) -> bool:
        """Whether an existing Caddy is given its file by the deployment."""
        return self.has_front and self.caddy_mode == "external" and bool(self.caddy_directory)

    @property
    def is_local(self) -> bool:
        """Whether the names are this machine's alone."""
        return _is_local(self.domain)

    @classmethod
    def load(cls) -> "Settings":
        """Read the settings of the stack that runs; raises `ConfigError`."""
        prefix = pulumi.get_project() + ":"
        everything = CONFIG.get() or get_config_env()
        config = {
            key.removeprefix(prefix): value
            for key, value in everything.items()
            if key.startswith(prefix)
        }
        encrypted = {key for key in config if is_config_secret(prefix + key)}
        return parse_settings(config, encrypted, os.environ)


def declared_settings() -> dict[str, Setting]:
    """Return how each field of `Settings` is read, by the field's name."""
    hints = get_type_hints(Settings, include_extras=True)
    return {name: get_args(hint)[1] for name, hint in hints.items()}


def key_of(field_name: str) -> str:
    """Return the config key of a field of `Settings`: `worker_cpus` is `workerCpus`."""
    first, *rest = field_name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def parse_settings(
    config: Mapping[str, str], encrypted: Collection[str], environment: Mapping[str, str]
) -> Settings:
    """Turn config values by key into `Settings`; raises one `ConfigError` with every problem.

    `encrypted` are the keys whose values Pulumi keeps as secrets.
    """
    problems = _foreign_context(environment) + _foreign_certificates(config, environment)
    problems += _unknown_keys(config)
    values: dict[str, Any] = {}
    for name, setting in declared_settings().items():
        try:
            values[name] = _parse(key_of(name), setting, config, encrypted)
        except ValueError as error:
            problems.append(str(error))
    problems += _misfits(values)
    if problems:
        headline = f"The configuration is not valid ({len(problems)} found)"
        raise ConfigError(headline, problems)
    return Settings(**values)


def _parse(
    key: str, setting: Setting, config: Mapping[str, str], encrypted: Collection[str]
) -> object:
    cure = set_command(key, setting.example)
    if key not in config:
        raise ValueError(complaint(key, "it is not set", "any valid value", cure))
    text = config[key]
    if setting.secret and text and key not in encrypted:
        raise ValueError(complaint(key, "it is kept in plain text", "an encrypted value", cure))
    try:
        return setting.parse(text)
    except ValueError as error:
        found = f"{'the value' if setting.secret else repr(text)} is not valid"
        raise ValueError(complaint(key, found, str(error), cure)) from None


def _foreign_context(environment: Mapping[str, str]) -> list[str]:
    context = environment.get("DOCKER_CONTEXT")
    if not context:
        return []
    found = f"{context!r} is set in the environment and would override the config key dockerHost"
    return [complaint("DOCKER_CONTEXT", found, "no value", "unset DOCKER_CONTEXT")]


def _foreign_certificates(config: Mapping[str, str], environment: Mapping[str, str]) -> list[str]:
    path = environment.get("DOCKER_CERT_PATH")
    if not path or config.get("dockerHost", "").startswith("tcp://"):
        return []
    found = f"{path!r} is set in the environment, and the provider would use it with dockerHost"
    allowed = "no value unless dockerHost is tcp://"
    return [complaint("DOCKER_CERT_PATH", found, allowed, "unset DOCKER_CERT_PATH")]


def _unknown_keys(config: Mapping[str, str]) -> list[str]:
    known = [key_of(name) for name in declared_settings()]
    return [_unknown_key(key, known) for key in sorted(set(config) - set(known))]


def _unknown_key(key: str, known: list[str]) -> str:
    lowered = {name.lower(): name for name in known}
    nearest = difflib.get_close_matches(key.lower(), lowered, n=1)
    hint = f"; did you mean {lowered[nearest[0]]}?" if nearest else ""
    found = f"there is no such key{hint}"
    return complaint(key, found, "one of " + ", ".join(known), f"pulumi config rm {key}")


def _misfits(values: Mapping[str, Any]) -> list[str]:
    """Return what is wrong between settings that are each valid by themselves."""
    return [*_starved_threads(values), *_front_misfits(values), *_open_notebook(values)]


def _front_misfits(values: Mapping[str, Any]) -> list[str]:
    """Return what is wrong between the settings of the front; a missing one was told already."""
    known = defaultdict(str, values)
    mode, name = known["caddy_mode"], known["domain"]
    if mode == "managed" and values.get("domain") == "":
        found = "it is not set, and a Caddy of the stack's own (caddyMode managed) serves names"
        return [complaint("domain", found, "a domain", set_command("domain", "localhost"))]
    if mode == "none" or not name:
        return []
    return [
        *_twins(known),
        *_login_misfits(known),
        *_acme_misfits(known),
        *_delivery_misfits(known),
    ]


def _delivery_misfits(known: Mapping[str, Any]) -> Iterator[str]:
    if known["caddy_mode"] != "external" or not known["caddy_directory"]:
        return
    if known["docker_host"].startswith("tcp://") and not known["caddy_host"]:
        found = f"it is not set, and {known['docker_host']} gives no access to Caddy's files"
        cure = set_command("caddyHost", "ssh://deploy@edge")
        yield complaint("caddyHost", found, "the host that Caddy runs on", cure)
    if not known["caddy_main_file"]:
        found = "it is not set, and Caddy has to validate what it is delivered"
        cure = set_command("caddyMainFile", "/etc/caddy/Caddyfile")
        yield complaint("caddyMainFile", found, "Caddy's own Caddyfile, as it sees it", cure)


def _twins(known: Mapping[str, Any]) -> Iterator[str]:
    name = known["domain"]
    if known["notebook_name"] and known["notebook_name"] == known["dashboard_name"]:
        found = f"{known['dashboard_name']!r} is the notebook's name too"
        cure = set_command("dashboardName", "dashboard")
        yield complaint("dashboardName", found, "another name than notebookName", cure)
    taken = [f"{known[each]}.{name}" for each in ("notebook_name", "dashboard_name")]
    if known["auth"] == "authelia" and host_of(known["authelia_portal"]) in taken:
        found = f"{known['authelia_portal']!r} is a name that this stack serves"
        cure = set_command("autheliaPortal", f"https://auth.{name}")
        yield complaint("autheliaPortal", found, "the portal's own name", cure)


def _login_misfits(known: Mapping[str, Any]) -> Iterator[str]:
    name = known["domain"]
    if known["auth"] == "authelia" and known.get("authelia_portal") == "":
        found = f"it is not set, and {name} is to be behind Authelia (auth authelia)"
        allowed = "the portal's https address, or another auth"
        cure = set_command("autheliaPortal", f"https://auth.{name}")
        yield complaint("autheliaPortal", found, allowed, cure)
    if bool(known["authelia_user"]) != bool(known["authelia_password"]):
        found = "it is set without the other of autheliaUser and autheliaPassword"
        key = "autheliaUser" if known["authelia_user"] else "autheliaPassword"
        yield complaint(key, found, "both or none", set_command("autheliaUser", "probe"))
    if known["auth"] == "none" and not _is_local(name):
        found = f"'none' would open {name} to everybody, and a notebook runs any code"
        allowed = "authelia or basic; none only under localhost"
        yield complaint("auth", found, allowed, set_command("auth", "basic"))


def _acme_misfits(known: Mapping[str, Any]) -> Iterator[str]:
    if known["caddy_mode"] != "managed" or _is_local(known["domain"]):
        return
    for key, example in (
        ("acmeEmail", f"admin@{known['domain']}"),
        ("acmeDirectory", "https://acme-v02.api.letsencrypt.org/directory"),
    ):
        if known.get("acme_" + key.removeprefix("acme").lower()) == "":
            found = f"it is not set, and {known['domain']} needs certificates"
            yield complaint(key, found, "any valid value", set_command(key, example))


def _open_notebook(values: Mapping[str, Any]) -> Iterator[str]:
    """A notebook without a login of its own needs one in front: it runs any code."""
    known = defaultdict(str, values)
    if values.get("notebook_login", True):
        return
    reasons = {
        "caddyMode none puts no login in front of it": known["caddy_mode"] == "none",
        "without a domain there is no login in front of it": values.get("domain") == "",
        "auth none puts no login in front of it": known["auth"] == "none",
        "notebookPassword is set for the notebook to ask for": bool(known["notebook_password"]),
    }
    for reason in [reason for reason, holds in reasons.items() if holds][:1]:
        allowed = "true; false only where a login is in front of the notebook, and no password set"
        cure = set_command("notebookLogin", "true")
        yield complaint("notebookLogin", f"it is false, and {reason}", allowed, cure)


def _is_local(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost")


def _starved_threads(values: Mapping[str, Any]) -> list[str]:
    if not {"worker_threads", "worker_cpus"} <= values.keys():
        return []
    threads, worker_cpus = values["worker_threads"], values["worker_cpus"]
    needed = threads * SMALLEST_CPU_PER_THREAD
    if worker_cpus >= needed:
        return []
    found = f"{threads} are too many for workerCpus {worker_cpus}"
    allowed = f"at least {SMALLEST_CPU_PER_THREAD} CPU for each thread"
    return [complaint("workerThreads", found, allowed, set_command("workerCpus", str(needed)))]
