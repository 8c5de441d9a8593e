"""Checks between settings that are each valid alone; pure, over their values.

Owns the rules between settings. `types.py` knows what one setting may hold, `settings.py` which
settings there are. Values are by config key; a setting that failed its own check is missing.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from ipaddress import IPv4Network
from typing import Any

from config.names import network_name, prefixed
from config.problems import Problem, set_command
from config.types import DEFAULT_MTU, host_of, is_local, spell_memory

OTHER_ADDRESSES = 16  # of the other services, old and new, the probe, the nodes and the gateway
SMALLEST_CPU_PER_THREAD = Decimal("0.25")
LONGEST_LABEL = 63  # of a DNS name


def cross_check(values: Mapping[str, Any]) -> list[Problem]:
    """Return what is wrong between settings that are each valid alone."""
    return [
        *_check_cluster(values),
        *_check_threads(values),
        *_check_network(values),
        *_check_reservations(values),
        *_check_ingress(values),
        *_check_variables(values),
        *_check_dask_sections(values),
        *_check_tls(values),
        *_check_object_store(values),
        *_check_prefect(values),
    ]


def _check_cluster(values: Mapping[str, Any]) -> Iterator[Problem]:
    known = defaultdict(str, values)
    cluster, network = known["clusterName"], known["caddyNetwork"]
    if cluster and network == network_name(cluster) and known["caddyMode"] != "none":
        yield Problem(
            key="caddyNetwork",
            found=f"{network!r} is the network that only the services of {cluster} are on",
            expected="the network that Caddy is on",
            fix=set_command("caddyNetwork", f"{cluster}-caddy-network"),
        )
    for key in ("notebookName", "dashboardName", "prefectName"):
        label = prefixed(cluster, known[key])
        if len(label) > LONGEST_LABEL:
            yield Problem(
                key=key,
                found=f"{label!r}, with clusterName in front, has {len(label)} characters",
                expected=f"at most {LONGEST_LABEL}",
                fix=set_command(key, key.removesuffix("Name")),
            )


def _check_threads(values: Mapping[str, Any]) -> Iterator[Problem]:
    if not {"workerThreads", "workerCpus"} <= values.keys():
        return
    threads, worker_cpus = values["workerThreads"], values["workerCpus"]
    needed = threads * SMALLEST_CPU_PER_THREAD
    if worker_cpus < needed:
        yield Problem(
            key="workerThreads",
            found=f"{threads} threads are too many for workerCpus {worker_cpus}",
            expected=f"at least {SMALLEST_CPU_PER_THREAD} CPU for each thread",
            fix=set_command("workerCpus", str(needed)),
        )


def _check_network(values: Mapping[str, Any]) -> Iterator[Problem]:
    known = defaultdict(str, values)
    for key in ("networkSubnet", "networkMtu", "networkEncrypted"):
        if known["networkMode"] == "external" and known[key] not in ("", DEFAULT_MTU, False):
            yield Problem(
                key=key,
                found="set, but networkMode is external: that network has its own options",
                expected="no value",
                fix=f"pulumi config rm {key}",
            )
    if known["caddyMode"] != "none" and known["caddyNetwork"] in known["networks"]:
        yield Problem(
            key="networks",
            found=f"{known['caddyNetwork']!r} is Caddy's network, which workers must not reach",
            expected="other networks",
            fix="pulumi config rm networks",
        )
    yield from _check_subnet(known)


def _check_subnet(known: Mapping[str, Any]) -> Iterator[Problem]:
    if not known["networkSubnet"] or not known["workers"]:
        return
    subnet, needed = IPv4Network(known["networkSubnet"]), known["workers"] + OTHER_ADDRESSES
    if subnet.num_addresses < needed:
        larger = f"{subnet.network_address}/{32 - (needed - 1).bit_length()}"
        larger = str(IPv4Network(larger, strict=False))
        yield Problem(
            key="networkSubnet",
            found=f"{subnet} has {subnet.num_addresses} addresses, too few for"
            f" {known['workers']} workers",
            expected=f"at least {needed}, for the other services, updates and nodes too",
            fix=set_command("networkSubnet", larger),
        )


def _check_reservations(values: Mapping[str, Any]) -> Iterator[Problem]:
    spellings: dict[str, Callable[[Any], str]] = {"Cpus": str, "Memory": spell_memory}
    for resource, spell in spellings.items():
        key, limit_key = f"workerReserved{resource}", f"worker{resource}"
        reserved, limit = values.get(key), values.get(limit_key)
        if reserved and limit and reserved > limit:
            yield Problem(
                key=key,
                found=f"{spell(reserved)} is more than {limit_key} {spell(limit)}",
                expected=f"at most {limit_key}",
                fix=set_command(key, spell(limit)),
            )


def _check_ingress(values: Mapping[str, Any]) -> Iterator[Problem]:
    known = defaultdict(str, values)
    if known["caddyMode"] == "managed" and values.get("domain") == "":
        yield Problem(
            key="domain",
            found="not set, but caddyMode managed needs a domain to serve",
            expected="a domain",
            fix=set_command("domain", "localhost"),
        )
    if known["caddyMode"] != "none" and known["domain"]:
        yield from _check_names(known)
        yield from _check_login(known)
        yield from _check_acme(known)
        yield from _check_install(known)


def _check_names(known: Mapping[str, Any]) -> Iterator[Problem]:
    domain = known["domain"]
    if known["notebookName"] and known["notebookName"] == known["dashboardName"]:
        yield Problem(
            key="dashboardName",
            found=f"{known['dashboardName']!r} is also the notebook's name",
            expected="a name other than notebookName",
            fix=set_command("dashboardName", "dashboard"),
        )
    served = ["notebookName", "dashboardName"]
    if known["prefect"] == "managed":
        if known["prefectName"] in [known[key] for key in served if known[key]]:
            yield Problem(
                key="prefectName",
                found=f"{known['prefectName']!r} is also the notebook's or the dashboard's name",
                expected="a name other than notebookName and dashboardName",
                fix=set_command("prefectName", "prefect"),
            )
        served.append("prefectName")
    hosts = [f"{prefixed(known['clusterName'], known[key])}.{domain}" for key in served]
    if known["auth"] == "authelia" and host_of(known["autheliaPortal"]) in hosts:
        yield Problem(
            key="autheliaPortal",
            found=f"{known['autheliaPortal']!r} is a name that this stack serves",
            expected="the address of Authelia's portal",
            fix=set_command("autheliaPortal", f"https://auth.{domain}"),
        )


def _check_login(known: Mapping[str, Any]) -> Iterator[Problem]:
    domain = known["domain"]
    if known["auth"] == "authelia" and known.get("autheliaPortal") == "":
        yield Problem(
            key="autheliaPortal",
            found=f"not set, but auth authelia protects {domain}",
            expected="the https address of Authelia's portal, or another auth",
            fix=set_command("autheliaPortal", f"https://auth.{domain}"),
        )
    yield from _check_pair(
        known, {"autheliaUser": "probe", "autheliaPassword": "--secret autheliaPassword"}
    )
    if known["auth"] == "none" and not is_local(domain):
        yield Problem(
            key="auth",
            found=f"'none' opens {domain} to everybody, and a notebook runs any code",
            expected="authelia or basic; none only under localhost",
            fix=set_command("auth", "basic"),
        )


def _check_pair(values: Mapping[str, Any], examples: Mapping[str, str]) -> Iterator[Problem]:
    """Yield the problem of two keys if only one is set; `examples` is key to valid value."""
    given = [key for key in examples if values.get(key)]
    unset = [key for key in examples if values.get(key) == ""]
    if given and unset:
        yield Problem(
            key=given[0],
            found=f"set without {unset[0]}",
            expected="both or none",
            fix=set_command(unset[0], examples[unset[0]]),
        )


def _check_acme(known: Mapping[str, Any]) -> Iterator[Problem]:
    domain = known["domain"]
    if known["caddyMode"] != "managed" or is_local(domain):
        return
    for key, example in (
        ("acmeEmail", f"admin@{domain}"),
        ("acmeDirectory", "https://acme-v02.api.letsencrypt.org/directory"),
    ):
        if known.get(key) == "":
            yield Problem(
                key=key,
                found=f"not set, but {domain} needs certificates",
                expected="any valid value",
                fix=set_command(key, example),
            )


def _check_install(known: Mapping[str, Any]) -> Iterator[Problem]:
    if known["caddyMode"] != "external" or not known["caddyDirectory"]:
        return
    if known["dockerHost"].startswith("tcp://") and not known["caddyHost"]:
        yield Problem(
            key="caddyHost",
            found=f"not set, but {known['dockerHost']} gives no access to Caddy's files",
            expected="the host that Caddy runs on",
            fix=set_command("caddyHost", "ssh://deploy@edge"),
        )
    if not known["caddyMainFile"]:
        yield Problem(
            key="caddyMainFile",
            found="not set, but Caddy validates its main file before it loads the sites",
            expected="the path of Caddy's own Caddyfile, as Caddy sees it",
            fix=set_command("caddyMainFile", "/etc/caddy/Caddyfile"),
        )


# The program sets these for every container; Dask's other variables are the user's.
RESERVED_VARIABLES = ("EXTRA_PIP_PACKAGES",)
# The program also sets these where there is a Prefect server; the last is an older name of the
# second.
PREFECT_VARIABLES = (
    *("PREFECT_API_URL", "PREFECT_SERVER_EPHEMERAL_ENABLED"),
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE",
)


def _check_variables(values: Mapping[str, Any]) -> Iterator[Problem]:
    has_server = values.get("prefect", "none") != "none"
    for name in values.get("environment", {}):
        # Prefect reads its variables in any case.
        is_prefects = has_server and name.upper() in PREFECT_VARIABLES
        if name in RESERVED_VARIABLES or is_prefects:
            yield _variable_problem(name, "is set by the program", "other names")


def _variable_problem(name: str, reason: str, expected: str) -> Problem:
    """Return the problem of a variable in `environment` that the user must not set."""
    return Problem(
        key="environment",
        found=f"{name} {reason}",
        expected=expected,
        fix=f"pulumi config rm --path environment.{name}",
    )


# The sections of Dask's configuration in which the program sets values.
DASK_SECTIONS = (
    *("distributed", "distributed.comm", "distributed.comm.tls", "distributed.dashboard"),
    *("distributed.scheduler", "distributed.worker", "distributed.worker.memory"),
)


def _check_dask_sections(values: Mapping[str, Any]) -> Iterator[Problem]:
    for section in DASK_SECTIONS:
        value = _child(values.get("daskConfig", {}), *section.split("."))
        if not isinstance(value, Mapping | None):
            yield Problem(
                key="daskConfig",
                found=f"{section} is {value!r:.200}, but the program sets values in this section",
                expected="a section with keys, or nothing",
                fix=f"pulumi config rm --path daskConfig.{section}",
            )


# By these Dask finds its certificates; with TLS the program sets them.
TLS_KEYS = (
    *("distributed.comm.default-scheme", "distributed.comm.require-encryption"),
    *("distributed.comm.tls.ca-file", "distributed.comm.tls.scheduler"),
    *("distributed.comm.tls.worker", "distributed.comm.tls.client"),
    "default-scheme",  # an older name of the first
)


def _check_tls(values: Mapping[str, Any]) -> Iterator[Problem]:
    if not values.get("tls"):
        return
    yield from _check_authorities(values)
    for key in TLS_KEYS:
        *parents, name = key.split(".")
        if name in _plain_keys(_child(values.get("daskConfig", {}), *parents)):
            yield Problem(
                key="daskConfig",
                found=f"{key} is set by the program, for TLS",
                expected="other keys, or tls false",
                fix=f"pulumi config rm --path daskConfig.{key}",
            )
    for name in sorted(values.get("environment", {})):
        if any(_overlap(_dask_key(name), key) for key in TLS_KEYS):
            yield _variable_problem(name, "is set by the program, for TLS", "other names")


def _dask_key(variable: str) -> str:
    """Return the key of Dask's configuration that a variable sets, empty if it sets none."""
    name = variable.removeprefix("DASK_")
    return "" if name == variable else name.lower().replace("__", ".").replace("_", "-")


def _overlap(key: str, other: str) -> bool:
    """Return whether one key of Dask's configuration is the other, or a section that holds it."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


def _check_authorities(values: Mapping[str, Any]) -> Iterator[Problem]:
    if not {"tlsCa", "tlsSchedulerCa"} <= values.keys():
        return
    ca, scheduler_ca = values["tlsCa"], values["tlsSchedulerCa"]
    if ca not in (scheduler_ca, scheduler_ca + 1):
        yield Problem(
            key="tlsCa",
            found=f"{ca}, but a scheduler of CA {scheduler_ca} knows no other CA",
            expected=f"{scheduler_ca} or {scheduler_ca + 1}, as tlsSchedulerCa or the next number",
            fix=set_command("tlsCa", str(scheduler_ca)),
        )


def _child(value: object, *keys: str) -> object:
    """Return what a nested Dask configuration holds under `keys`, an empty object if nothing."""
    for key in keys:
        value = _plain_keys(value).get(key, {})
    return value


def _plain_keys(value: object) -> Mapping[str, object]:
    """Return a level of Dask's configuration; in its keys `-` and `_` mean the same."""
    items = value.items() if isinstance(value, Mapping) else ()
    return {str(key).replace("_", "-"): inner for key, inner in items}


def _check_object_store(values: Mapping[str, Any]) -> Iterator[Problem]:
    known = defaultdict(str, values)
    yield from _check_pair(values, {"s3AccessKey": "AKIA…", "s3SecretKey": "--secret s3SecretKey"})
    if known["s3AccessKey"] or known["s3SecretKey"]:
        yield from _check_object_store_variables(values.get("environment", {}))
        return
    for key in ("s3Endpoint", "s3Region", "s3Bucket", "s3CaBundle"):
        if known[key]:
            yield Problem(
                key=key,
                found="set without keys for the S3 server",
                expected="s3AccessKey and s3SecretKey as well",
                fix=set_command("s3AccessKey", "AKIA…"),
            )


# The program sets these where there are keys, or S3 clients prefer them to what it sets.
OBJECT_STORE_VARIABLES = (
    *("AWS_SHARED_CREDENTIALS_FILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    *("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ENDPOINT_URL"),
    *("AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE"),
    *("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION", "S3_BUCKET"),
)


def _check_object_store_variables(environment: Mapping[str, str]) -> Iterator[Problem]:
    for name in sorted(environment.keys() & {*OBJECT_STORE_VARIABLES}):
        reason = "is set, but the s3… keys already configure the S3 server"
        yield _variable_problem(name, reason, "the s3… keys alone")


def _check_prefect(values: Mapping[str, Any]) -> Iterator[Problem]:
    known = defaultdict(str, values)
    if known["prefect"] == "external" and values.get("prefectApiUrl") == "":
        yield Problem(
            key="prefectApiUrl",
            found="not set, but prefect is external",
            expected="the API of the Prefect server",
            fix=set_command("prefectApiUrl", "http://prefect.example.org:4200/api"),
        )
    if known["prefect"] in ("managed", "none") and known["prefectApiUrl"]:
        yield Problem(
            key="prefectApiUrl",
            found=f"set, but prefect is {known['prefect']}",
            expected="no address, or prefect external",
            fix=set_command("prefect", "external"),
        )
