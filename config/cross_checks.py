"""What is wrong between settings that are each valid by themselves; pure, over their values.

Owns: the rules between settings, each told with the key to change. What one setting may hold is
`parsing.py`'s, and which settings there are `settings.py`'s, which hands on the values by their
fields' names; one that is missing or not valid was told already.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from config.problems import complaint, set_command
from config.types import host_of, is_local

SMALLEST_CPU_PER_THREAD = Decimal("0.25")


def misfits(values: Mapping[str, Any]) -> list[str]:
    """Return what is wrong between settings that are each valid by themselves."""
    return [
        *_starved_threads(values),
        *_front_misfits(values),
        *_reserved_names(values),
        *_object_store_misfits(values),
        *_prefect_misfits(values),
    ]


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
    served = ["notebook_name", "dashboard_name"]
    if known["prefect"] == "managed":
        if known["prefect_name"] in [known[each] for each in served if known[each]]:
            found = f"{known['prefect_name']!r} is the notebook's or the dashboard's name too"
            allowed = "another name than notebookName and dashboardName"
            yield complaint("prefectName", found, allowed, set_command("prefectName", "prefect"))
        served.append("prefect_name")
    taken = [f"{known[each]}.{name}" for each in served]
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
    if known["auth"] == "none" and not is_local(name):
        found = f"'none' would open {name} to everybody, and a notebook runs any code"
        allowed = "authelia or basic; none only under localhost"
        yield complaint("auth", found, allowed, set_command("auth", "basic"))


def _acme_misfits(known: Mapping[str, Any]) -> Iterator[str]:
    if known["caddy_mode"] != "managed" or is_local(known["domain"]):
        return
    for key, example in (
        ("acmeEmail", f"admin@{known['domain']}"),
        ("acmeDirectory", "https://acme-v02.api.letsencrypt.org/directory"),
    ):
        if known.get("acme_" + key.removeprefix("acme").lower()) == "":
            found = f"it is not set, and {known['domain']} needs certificates"
            yield complaint(key, found, "any valid value", set_command(key, example))


# What the program itself sets for every container; others of Dask's are the user's.
RESERVED_VARIABLES = ("EXTRA_PIP_PACKAGES",)


# And where there is a Prefect server; the last is an older name of the second.
PREFECT_VARIABLES = (
    *("PREFECT_API_URL", "PREFECT_SERVER_EPHEMERAL_ENABLED"),
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE",
)


def _reserved_names(values: Mapping[str, Any]) -> Iterator[str]:
    has_server = values.get("prefect", "none") != "none"
    reserved = RESERVED_VARIABLES + (PREFECT_VARIABLES if has_server else ())
    for name in values.get("environment", {}):
        if name in reserved:
            cure = f"pulumi config rm --path environment.{name}"
            yield complaint("environment", f"{name} is set by the program", "other names", cure)


def _object_store_misfits(values: Mapping[str, Any]) -> Iterator[str]:
    known = defaultdict(str, values)
    if bool(known["s3_access_key"]) != bool(known["s3_secret_key"]):
        found = "it is set without the other of s3AccessKey and s3SecretKey"
        key = "s3AccessKey" if known["s3_access_key"] else "s3SecretKey"
        cure = set_command("s3SecretKey", "--secret s3SecretKey")
        yield complaint(key, found, "both or none", cure)
    if known["s3_access_key"] or known["s3_secret_key"]:
        yield from _object_store_variables(values.get("environment", {}))
        return
    named = {
        "s3Endpoint": "s3_endpoint",
        "s3Region": "s3_region",
        "s3Bucket": "s3_bucket",
        "s3CaBundle": "s3_ca_bundle",
    }
    for key in [key for key, name in named.items() if known[name]]:
        found = "it is set, and there are no keys for it"
        cure = set_command("s3AccessKey", "AKIA…")
        yield complaint(key, found, "s3AccessKey and s3SecretKey as well", cure)


# What the program sets where there are keys, and what clients would prefer to it.
OBJECT_STORE_VARIABLES = (
    *("AWS_SHARED_CREDENTIALS_FILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    *("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ENDPOINT_URL"),
    *("AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE"),
    *("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION", "S3_BUCKET"),
)


def _object_store_variables(environment: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(environment.keys() & {*OBJECT_STORE_VARIABLES}):
        found = f"{name} is set, and the keys s3… set what it is for"
        cure = f"pulumi config rm --path environment.{name}"
        yield complaint("environment", found, "the keys s3… alone", cure)


def _prefect_misfits(values: Mapping[str, Any]) -> Iterator[str]:
    known = defaultdict(str, values)
    if known["prefect"] == "external" and values.get("prefect_api_url") == "":
        found = "it is not set, and prefect is external"
        cure = set_command("prefectApiUrl", "http://prefect.example.org:4200/api")
        yield complaint("prefectApiUrl", found, "the API of the Prefect server", cure)
    if known["prefect"] in ("managed", "none") and known["prefect_api_url"]:
        found = f"it is set, and prefect is {known['prefect']}"
        cure = set_command("prefect", "external")
        yield complaint("prefectApiUrl", found, "no address, or prefect external", cure)
