"""The settings of a stack: every config key is read, checked and typed here.

Owns which keys there are and what each may hold; `cross_checks.py` checks them together. All
problems are reported at once, before any resource is registered. It does not ask the Swarm;
`swarm/site.py` does.

A field's config key is its name in camelCase; `Pulumi.yaml` holds its description and default.
"""

import difflib
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any, get_args, get_type_hints

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env, is_config_secret

from config.cross_checks import cross_check
from config.problems import ConfigError, Problem, ProblemError, set_command
from config.types import (
    ImageReference,
    Platform,
    absolute_path,
    bucket,
    caddy_image,
    certificates,
    cpus,
    dask_configuration,
    dns_label,
    docker_host,
    domain,
    email,
    environment_variables,
    http_url,
    https_url,
    image_reference,
    is_local,
    memory_from,
    network_name,
    one_of,
    optional_text,
    optional_word,
    password,
    placement,
    platform,
    requirements,
    short_password,
    ssh_host,
    upstream,
    whole_number,
    word,
    yes_or_no,
)

# Measured: an idle worker's memory; with less, the kernel kills the worker while it starts.
SMALLEST_MEMORY = "256MiB"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a config value is parsed, and the arguments that set a valid value."""

    parse: Callable[[str], Any]
    example: str
    secret: bool = False
    plain: bool = False  # containers show it, so it must not hold a secret


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
    notebook_login: Annotated[bool, Setting(parse=yes_or_no, example="false")]
    control_placement: Annotated[
        tuple[str, ...], Setting(parse=placement, example="node.labels.role==master")
    ]

    environment: Annotated[
        Mapping[str, str],
        Setting(parse=environment_variables, example="--path environment.TZ Europe/Berlin"),
    ] = field(repr=False)
    dask_config: Annotated[
        Mapping[str, Any],
        Setting(
            parse=dask_configuration,
            example="--path daskConfig.array.chunk-size 64MiB",
            plain=True,
        ),
    ]
    s3_endpoint: Annotated[str, Setting(parse=http_url, example="https://s3.example.org")]
    s3_region: Annotated[str, Setting(parse=optional_word, example="us-east-1")]
    s3_access_key: Annotated[str, Setting(parse=optional_text, example="AKIA…")]
    s3_secret_key: Annotated[
        str, Setting(parse=optional_text, example="--secret s3SecretKey", secret=True)
    ] = field(repr=False)
    s3_path_style: Annotated[bool, Setting(parse=yes_or_no, example="true")]
    s3_ca_bundle: Annotated[str, Setting(parse=certificates, example='-- "$(cat ca.pem)"')]
    s3_bucket: Annotated[str, Setting(parse=bucket, example="dask")]

    prefect: Annotated[
        str, Setting(parse=one_of("managed", "external", "none"), example="managed")
    ]
    prefect_api_url: Annotated[
        str, Setting(parse=http_url, example="http://prefect.example.org:4200/api")
    ]
    prefect_name: Annotated[str, Setting(parse=dns_label, example="prefect")]
    prefect_cpus: Annotated[Decimal, _CPUS]
    prefect_memory: Annotated[int, _MEMORY]

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
    authelia_address: Annotated[str, Setting(parse=upstream, example="authelia:9091")]
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
    proof: Annotated[str, Setting(parse=one_of("full", "quick"), example="full")]
    health_deadline: Annotated[int, Setting(parse=whole_number(10, 3600), example="300")]

    @property
    def has_ingress(self) -> bool:
        """Whether Caddy serves notebook and dashboard under names."""
        return self.caddy_mode != "none" and bool(self.domain)

    @property
    def notebook_asks(self) -> bool:
        """Whether the notebook asks for its token or password, instead of the ingress login."""
        return self.notebook_login or not self.has_ingress or self.auth == "none"

    @property
    def proves_ingress(self) -> bool:
        """Whether the deployment configures the ingress, and so must prove it."""
        return self.has_ingress and (self.caddy_mode == "managed" or self.installs_sites)

    @property
    def proof_logs_in(self) -> bool:
        """Whether the ingress proof can log in, and so use the services behind the login."""
        return self.proves_ingress and (self.auth != "authelia" or bool(self.authelia_user))

    @property
    def installs_sites(self) -> bool:
        """Whether the deployment installs its sites in an external Caddy."""
        return self.has_ingress and self.caddy_mode == "external" and bool(self.caddy_directory)

    @property
    def is_local(self) -> bool:
        """Whether the names are for this machine only."""
        return is_local(self.domain)

    @classmethod
    def load(cls) -> "Settings":
        """Read the settings of the current stack; raises `ConfigError`."""
        prefix = pulumi.get_project() + ":"
        all_config = CONFIG.get() or get_config_env()
        config = {
            key.removeprefix(prefix): value
            for key, value in all_config.items()
            if key.startswith(prefix)
        }
        encrypted = {key for key in config if is_config_secret(prefix + key)}
        return parse_settings(config, encrypted, os.environ)


def declared_settings() -> dict[str, Setting]:
    """Return the `Setting` of each field of `Settings`, by field name."""
    hints = get_type_hints(Settings, include_extras=True)
    return {name: get_args(hint)[1] for name, hint in hints.items()}


def key_of(field_name: str) -> str:
    """Return the config key of a field of `Settings`: `worker_cpus` is `workerCpus`."""
    first, *rest = field_name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def parse_settings(
    config: Mapping[str, str], encrypted: Collection[str], environment: Mapping[str, str]
) -> Settings:
    """Parse config values by key; raises one `ConfigError` with every problem.

    `encrypted` are the keys whose values are Pulumi secrets.
    """
    problems = [*_check_environment(config, environment), *_unknown_keys(config)]
    values: dict[str, Any] = {}
    for name, setting in declared_settings().items():
        try:
            values[name] = _parse(key_of(name), setting, config, encrypted)
        except ProblemError as error:
            problems.append(error.problem)
    problems += cross_check(values)
    if problems:
        raise ConfigError("The configuration is not valid", problems)
    return Settings(**values)


def _parse(
    key: str, setting: Setting, config: Mapping[str, str], encrypted: Collection[str]
) -> object:
    text = config.get(key)
    if text is None:
        raise _refusal(key, setting, "not set", "any valid value")
    if setting.secret and text and key not in encrypted:
        raise _refusal(key, setting, "the value is in plain text", "an encrypted value")
    if setting.plain and key in encrypted:
        problem = Problem(
            key=key,
            found="the value is a secret, but every container's configuration shows it",
            expected="values that are not secret",
            fix=set_command("environment", "--secret --path environment.DASK_NAME value"),
        )
        raise ProblemError(problem)
    try:
        return setting.parse(text)
    except ValueError as error:
        value = "the value" if setting.secret or key in encrypted else repr(text)
        raise _refusal(key, setting, f"{value} is not valid", str(error)) from None


def _refusal(key: str, setting: Setting, found: str, expected: str) -> ProblemError:
    fix = set_command(key, setting.example)
    return ProblemError(Problem(key=key, found=found, expected=expected, fix=fix))


def _check_environment(
    config: Mapping[str, str], environment: Mapping[str, str]
) -> Iterator[Problem]:
    if context := environment.get("DOCKER_CONTEXT"):
        yield Problem(
            key="DOCKER_CONTEXT",
            found=f"{context!r} is set in the environment and overrides dockerHost",
            expected="no value",
            fix="unset DOCKER_CONTEXT",
        )
    path = environment.get("DOCKER_CERT_PATH")
    if path and not config.get("dockerHost", "").startswith("tcp://"):
        yield Problem(
            key="DOCKER_CERT_PATH",
            found=f"{path!r} is set in the environment, and the provider uses it with dockerHost",
            expected="no value unless dockerHost is tcp://",
            fix="unset DOCKER_CERT_PATH",
        )


def _unknown_keys(config: Mapping[str, str]) -> Iterator[Problem]:
    known = {key.lower(): key for key in map(key_of, declared_settings())}
    for key in sorted(config.keys() - known.values()):
        nearest = difflib.get_close_matches(key.lower(), known, n=1)
        yield Problem(
            key=key,
            found="unknown key" + (f"; did you mean {known[nearest[0]]}?" if nearest else ""),
            expected="one of " + ", ".join(known.values()),
            fix=f"pulumi config rm {key}",
        )
