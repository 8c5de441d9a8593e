"""The settings of a stack: every config key is read, checked and typed here.

Owns which keys there are and what each may hold; `cross_checks.py` checks them together. All
problems are reported at once, before any resource is registered. It does not ask the Swarm;
`swarm/site.py` does.

Config keys are flat, and `Pulumi.yaml` holds their descriptions and defaults; `Settings` groups
their values in slices, by what they are for.
"""

import difflib
import os
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from decimal import Decimal
from typing import Annotated, Any, TypeVar, get_args, get_type_hints
from urllib.parse import urlsplit

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env, is_config_secret
from requests.utils import should_bypass_proxies

from config.cross_checks import cross_check
from config.problems import ConfigError, Problem, ProblemError, set_command
from config.types import (
    DEFAULT_MTU,
    ENCRYPTED_OPTION,
    MTU_OPTION,
    ImageReference,
    absolute_path,
    bucket,
    caddy_image,
    certificates,
    cluster_name,
    cpus,
    dask_configuration,
    dask_image,
    dns_label,
    docker_host,
    domain,
    email,
    environment_variables,
    has_login,
    http_url,
    https_url,
    is_local,
    memory_from,
    network_name,
    network_names,
    one_of,
    optional,
    optional_text,
    optional_word,
    password,
    pip_options,
    placement,
    platforms,
    requirements,
    short_password,
    ssh_host,
    subnet,
    upstream,
    whole_number,
    word,
    yes_or_no,
)

# Measured: an idle worker's memory; with less, the kernel kills the worker while it starts.
SMALLEST_MEMORY = "256MiB", "Dask does not start in less"
SMALLEST_RESERVATION = "4MiB", "Swarm reserves no less"
LONGEST_SHOWN = 200  # characters of a value in a message


@dataclass(frozen=True)
class Setting:
    """A config key: how its value is parsed, and the arguments that set a valid value."""

    key: str
    parse: Callable[[str], Any]
    example: str
    _: KW_ONLY
    secret: bool = False
    plain: bool = False  # containers show it, so it must not hold a secret
    holds_urls: bool = False  # with a user or a password in an address it must be encrypted


def _cpus(key: str) -> Setting:
    return Setting(key, cpus, "0.5")


def _memory(key: str) -> Setting:
    return Setting(key, memory_from(*SMALLEST_MEMORY), "1GiB")


def _count(key: str) -> Setting:
    return Setting(key, whole_number(1, 1000), "2")


def _choice(key: str, *choices: str, example: str) -> Setting:
    return Setting(key, one_of(*choices), example)


def _secret(key: str, parse: Callable[[str], str]) -> Setting:
    return Setting(key, parse, f"--secret {key}", secret=True)


def _password(key: str) -> Setting:
    return _secret(key, password)


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """The cluster's name, its Swarm, its images, and the packages that containers install."""

    docker_host: Annotated[str, Setting("dockerHost", docker_host, "ssh://deploy@manager")]
    name: Annotated[str, Setting("clusterName", cluster_name, "blue")]
    platforms: Annotated[tuple[str, ...], Setting("platform", platforms, "linux/amd64")]
    image: Annotated[
        ImageReference, Setting("image", dask_image, "ghcr.io/dask/dask:2026.7.1-py3.12")
    ]
    notebook_image: Annotated[
        ImageReference,
        Setting("notebookImage", dask_image, "ghcr.io/dask/dask-notebook:2026.7.1-py3.12"),
    ]
    packages: Annotated[
        tuple[str, ...],
        Setting("extraPipPackages", requirements, "--path 'extraPipPackages[0]' prefect"),
    ]
    pip_config: Annotated[
        Mapping[str, str],
        Setting(
            "pipConfig",
            pip_options,
            "--secret --path pipConfig.index-url https://pypi.example.org/simple",
            holds_urls=True,
        ),
    ] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """How many workers there are, what each may use, and where they run.

    Each reserves all that it may use, unless `reserved_cpus` or `reserved_memory` is set.
    """

    count: Annotated[int, _count("workers")]
    per_node: Annotated[int, _count("workersPerNode")]
    threads: Annotated[int, _count("workerThreads")]
    cpus: Annotated[Decimal, _cpus("workerCpus")]
    memory: Annotated[int, _memory("workerMemory")]
    reserved_cpus: Annotated[Decimal | None, Setting("workerReservedCpus", optional(cpus), "0.1")]
    reserved_memory: Annotated[
        int | None,
        Setting("workerReservedMemory", optional(memory_from(*SMALLEST_RESERVATION)), "256MiB"),
    ]
    placement: Annotated[
        tuple[str, ...], Setting("workerPlacement", placement, "node.labels.role==data-worker")
    ]


@dataclass(frozen=True, kw_only=True)
class SchedulerSettings:
    """What the scheduler may use."""

    cpus: Annotated[Decimal, _cpus("schedulerCpus")]
    memory: Annotated[int, _memory("schedulerMemory")]


@dataclass(frozen=True, kw_only=True)
class NotebookSettings:
    """What the notebook may use, and how users log in to it."""

    cpus: Annotated[Decimal, _cpus("notebookCpus")]
    memory: Annotated[int, _memory("notebookMemory")]
    password: Annotated[str, _password("notebookPassword")] = field(repr=False)
    login: Annotated[bool, Setting("notebookLogin", yes_or_no, "false")]


@dataclass(frozen=True, kw_only=True)
class SharedSettings:
    """What several services share."""

    control_placement: Annotated[
        tuple[str, ...], Setting("controlPlacement", placement, "node.labels.role==master")
    ]
    environment: Annotated[
        Mapping[str, str],
        Setting("environment", environment_variables, "--path environment.TZ Europe/Berlin"),
    ] = field(repr=False)
    dask_config: Annotated[
        Mapping[str, Any],
        Setting(
            "daskConfig",
            dask_configuration,
            "--path daskConfig.array.chunk-size 64MiB",
            plain=True,
        ),
    ]


@dataclass(frozen=True, kw_only=True)
class TlsSettings:
    """Whether the cluster is encrypted, and the numbers of the CAs that sign its certificates.

    `ca` signs those of workers and clients.
    """

    on: Annotated[bool, Setting("tls", yes_or_no, "true")]
    ca: Annotated[int, Setting("tlsCa", whole_number(1, 1000000), "2")]
    scheduler_ca: Annotated[int, Setting("tlsSchedulerCa", whole_number(1, 1000000), "2")]


@dataclass(frozen=True, kw_only=True)
class ObjectStoreSettings:
    """The S3 server of workers and notebook, and its keys."""

    endpoint: Annotated[str, Setting("s3Endpoint", http_url, "https://s3.example.org")]
    region: Annotated[str, Setting("s3Region", optional_word, "us-east-1")]
    access_key: Annotated[str, Setting("s3AccessKey", optional_text, "AKIA…")]
    secret_key: Annotated[str, _secret("s3SecretKey", optional_text)] = field(repr=False)
    path_style: Annotated[bool, Setting("s3PathStyle", yes_or_no, "true")]
    ca_bundle: Annotated[str, Setting("s3CaBundle", certificates, '-- "$(cat ca.pem)"')]
    bucket: Annotated[str, Setting("s3Bucket", bucket, "dask")]


@dataclass(frozen=True, kw_only=True)
class PrefectSettings:
    """Which Prefect server there is: `mode` is managed, external or none."""

    mode: Annotated[str, _choice("prefect", "managed", "external", "none", example="managed")]
    api_url: Annotated[
        str, Setting("prefectApiUrl", http_url, "http://prefect.example.org:4200/api")
    ]
    name: Annotated[str, Setting("prefectName", dns_label, "prefect")]
    cpus: Annotated[Decimal, _cpus("prefectCpus")]
    memory: Annotated[int, _memory("prefectMemory")]


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The cluster's network, and the `others` that workers and notebook join.

    `mode` is managed or external. Without a `subnet` Swarm chooses one.
    """

    mode: Annotated[str, _choice("networkMode", "managed", "external", example="managed")]
    subnet: Annotated[str, Setting("networkSubnet", subnet, "192.168.64.0/24")]
    mtu: Annotated[int, Setting("networkMtu", whole_number(576, 9216), "1400")]
    encrypted: Annotated[bool, Setting("networkEncrypted", yes_or_no, "true")]
    others: Annotated[
        tuple[str, ...], Setting("networks", network_names, "--path 'networks[0]' minio-network")
    ]

    @property
    def options(self) -> dict[str, str]:
        """Return the driver's options; Docker's defaults are left out."""
        mtu = {MTU_OPTION: str(self.mtu)} if self.mtu != DEFAULT_MTU else {}
        return mtu | ({ENCRYPTED_OPTION: ""} if self.encrypted else {})


@dataclass(frozen=True, kw_only=True)
class CaddySettings:
    """Which Caddy there is: `mode` is managed, external or none."""

    mode: Annotated[str, _choice("caddyMode", "external", "managed", "none", example="external")]
    network: Annotated[str, Setting("caddyNetwork", network_name, "caddy-network")]
    image: Annotated[ImageReference, Setting("caddyImage", caddy_image, "caddy:2.11.9")]
    directory: Annotated[str, Setting("caddyDirectory", absolute_path, "/srv/caddy/sites")]
    host: Annotated[str, Setting("caddyHost", ssh_host, "ssh://deploy@edge")]
    service: Annotated[str, Setting("caddyService", optional_word, "edge_caddy")]
    main_file: Annotated[str, Setting("caddyMainFile", absolute_path, "/etc/caddy/Caddyfile")]


@dataclass(frozen=True, kw_only=True)
class IngressSettings:
    """The names that Caddy serves, their login and their certificates."""

    domain: Annotated[str, Setting("domain", domain, "dask.example.org")]
    notebook_name: Annotated[str, Setting("notebookName", dns_label, "notebook")]
    dashboard_name: Annotated[str, Setting("dashboardName", dns_label, "dashboard")]
    auth: Annotated[str, _choice("auth", "authelia", "basic", "none", example="authelia")]
    authelia_address: Annotated[str, Setting("autheliaAddress", upstream, "authelia:9091")]
    authelia_portal: Annotated[
        str, Setting("autheliaPortal", https_url, "https://auth.example.org")
    ]
    authelia_endpoint: Annotated[
        str,
        _choice(
            "autheliaEndpoint",
            "/api/authz/forward-auth",
            "/api/verify",
            example="/api/authz/forward-auth",
        ),
    ]
    authelia_cookie: Annotated[str, Setting("autheliaCookie", word, "authelia_session")]
    authelia_user: Annotated[str, Setting("autheliaUser", optional_word, "probe")]
    authelia_password: Annotated[str, _password("autheliaPassword")] = field(repr=False)
    basic_user: Annotated[str, Setting("basicUser", word, "dask")]
    basic_password: Annotated[str, _secret("basicPassword", short_password)] = field(repr=False)
    acme_email: Annotated[str, Setting("acmeEmail", email, "admin@example.org")]
    acme_directory: Annotated[
        str, Setting("acmeDirectory", https_url, "https://acme-v02.api.letsencrypt.org/directory")
    ]

    @property
    def is_local(self) -> bool:
        """Whether the names are for this machine only."""
        return is_local(self.domain)


@dataclass(frozen=True, kw_only=True)
class HealthSettings:
    """How much a deployment must prove, and within how many seconds.

    Before a change of an image it waits `idle_deadline` seconds until no task runs.
    """

    proof: Annotated[str, _choice("proof", "full", "quick", example="full")]
    deadline: Annotated[int, Setting("healthDeadline", whole_number(10, 3600), "300")]
    idle_deadline: Annotated[int, Setting("idleDeadline", whole_number(0, 86400), "600")]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one stack; sizes in bytes, CPUs as exact decimals, times in seconds.

    `object_store` is None without keys, `ingress` without a domain or without a Caddy.
    """

    cluster: ClusterSettings
    workers: WorkerSettings
    scheduler: SchedulerSettings
    notebook: NotebookSettings
    shared: SharedSettings
    tls: TlsSettings
    object_store: ObjectStoreSettings | None
    prefect: PrefectSettings
    network: NetworkSettings
    caddy: CaddySettings
    ingress: IngressSettings | None
    health: HealthSettings

    @property
    def notebook_asks(self) -> bool:
        """Whether the notebook asks for its token or password, instead of the ingress login."""
        return self.notebook.login or self.ingress is None or self.ingress.auth == "none"

    @property
    def proves_ingress(self) -> bool:
        """Whether the deployment configures the ingress, and so must prove it."""
        return self.caddy.mode == "managed" or self.installs_sites

    @property
    def proof_logs_in(self) -> bool:
        """Whether the ingress proof can log in, and so use the services behind the login."""
        if self.ingress is None or not self.proves_ingress:
            return False
        return self.ingress.auth != "authelia" or bool(self.ingress.authelia_user)

    @property
    def installs_sites(self) -> bool:
        """Whether the deployment installs its sites in an external Caddy."""
        is_external = self.ingress is not None and self.caddy.mode == "external"
        return is_external and bool(self.caddy.directory)

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


SLICES = (
    *(ClusterSettings, WorkerSettings, SchedulerSettings, NotebookSettings, SharedSettings),
    *(
        TlsSettings,
        ObjectStoreSettings,
        PrefectSettings,
        NetworkSettings,
        CaddySettings,
        IngressSettings,
        HealthSettings,
    ),
)
_Slice = TypeVar("_Slice")


def _settings_of(slice_type: type) -> dict[str, Setting]:
    """Return the `Setting` of each field of a slice, by field name."""
    hints = get_type_hints(slice_type, include_extras=True)
    return {name: get_args(hint)[1] for name, hint in hints.items()}


_SETTINGS: dict[type, dict[str, Setting]] = {
    slice_type: _settings_of(slice_type) for slice_type in SLICES
}


def declared_settings() -> list[Setting]:
    """Return every config key's `Setting`."""
    return [setting for settings in _SETTINGS.values() for setting in settings.values()]


def accepts(key: str, text: str) -> bool:
    """Return whether a value is valid for a config key, as far as other keys do not count."""
    (setting,) = (setting for setting in declared_settings() if setting.key == key)
    try:
        setting.parse(text)
    except ValueError:
        return False
    return True


def parse_settings(
    config: Mapping[str, str], encrypted: Collection[str], environment: Mapping[str, str]
) -> Settings:
    """Parse config values by key; raises one `ConfigError` with every problem.

    `encrypted` are the keys whose values are Pulumi secrets.
    """
    problems = [*_check_environment(config, environment), *_unknown_keys(config)]
    values: dict[str, Any] = {}
    for setting in declared_settings():
        try:
            values[setting.key] = _parse(setting, config, encrypted)
        except ProblemError as error:
            problems.append(error.problem)
    problems += cross_check(values)
    if problems:
        raise ConfigError("The configuration is not valid", problems)
    return _assemble(values)


def _assemble(values: Mapping[str, Any]) -> Settings:
    def take(slice_type: type[_Slice]) -> _Slice:
        settings = _SETTINGS[slice_type].items()
        return slice_type(**{name: values[setting.key] for name, setting in settings})

    has_ingress = values["caddyMode"] != "none" and values["domain"]
    return Settings(
        cluster=take(ClusterSettings),
        workers=take(WorkerSettings),
        scheduler=take(SchedulerSettings),
        notebook=take(NotebookSettings),
        shared=take(SharedSettings),
        network=take(NetworkSettings),
        tls=take(TlsSettings),
        object_store=take(ObjectStoreSettings) if values["s3AccessKey"] else None,
        prefect=take(PrefectSettings),
        caddy=take(CaddySettings),
        ingress=take(IngressSettings) if has_ingress else None,
        health=take(HealthSettings),
    )


def _parse(setting: Setting, config: Mapping[str, str], encrypted: Collection[str]) -> object:
    text = config.get(setting.key)
    if text is None:
        raise _refusal(setting, "not set", "any valid value")
    needs_secret = (setting.secret and text) or (setting.holds_urls and has_login(text))
    if needs_secret and setting.key not in encrypted:
        raise _refusal(setting, "the value is in plain text", "an encrypted value")
    if setting.plain and setting.key in encrypted:
        problem = Problem(
            key=setting.key,
            found="the value is a secret, but every container's configuration shows it",
            expected="values that are not secret",
            fix=set_command("environment", "--secret --path environment.DASK_NAME value"),
        )
        raise ProblemError(problem)
    try:
        return setting.parse(text)
    except ValueError as error:
        is_hidden = setting.secret or setting.key in encrypted or len(text) > LONGEST_SHOWN
        value = "the value" if is_hidden else repr(text)
        raise _refusal(setting, f"{value} is not valid", str(error)) from None


def _refusal(setting: Setting, found: str, expected: str) -> ProblemError:
    fix = set_command(setting.key, setting.example)
    return ProblemError(Problem(key=setting.key, found=found, expected=expected, fix=fix))


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
    yield from _check_proxies(config.get("dockerHost", ""), environment)
    path = environment.get("DOCKER_CERT_PATH")
    if path and not config.get("dockerHost", "").startswith("tcp://"):
        yield Problem(
            key="DOCKER_CERT_PATH",
            found=f"{path!r} is set in the environment, and the provider uses it with dockerHost",
            expected="no value unless dockerHost is tcp://",
            fix="unset DOCKER_CERT_PATH",
        )


def _check_proxies(address: str, environment: Mapping[str, str]) -> Iterator[Problem]:
    """Yield the problem of a proxy between here and an engine on the network."""
    name = "HTTPS_PROXY" if environment.get("DOCKER_CERT_PATH") else "HTTP_PROXY"
    proxy = environment.get(name) or environment.get(name.lower())
    if not (proxy and address.startswith("tcp://") and _is_valid(docker_host, address)):
        return
    host = urlsplit(address).hostname
    without = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    if not without or not should_bypass_proxies(f"http://{host}", no_proxy=without):
        yield Problem(
            key=name,
            found=f"set in the environment, so requests to dockerHost {address} go to the proxy",
            expected=f"{host} in NO_PROXY",
            fix=f"export NO_PROXY={','.join(filter(None, [without, host]))}",
        )


def _is_valid(parse: Callable[[str], Any], text: str) -> bool:
    with suppress(ValueError):
        parse(text)
        return True
    return False


def _unknown_keys(config: Mapping[str, str]) -> Iterator[Problem]:
    known = {setting.key.lower(): setting.key for setting in declared_settings()}
    for key in sorted(config.keys() - known.values()):
        nearest = difflib.get_close_matches(key.lower(), known, n=1)
        name = key if key.isprintable() else repr(key)
        yield Problem(
            key=name,
            found="unknown key" + (f"; did you mean {known[nearest[0]]}?" if nearest else ""),
            expected="one of " + ", ".join(known.values()),
            fix=f"pulumi config rm {shlex.quote(name)}",
        )
