"""The ingress: notebook, dashboard and Prefect by HTTPS, each by its name, behind a login.

Owns the sites' names, the login, the keys by which notebook and Prefect trust Caddy, and the one
file of an existing Caddy (`external`), which `caddy/install.py` installs. `managed_caddy.py`
declares the managed Caddy; `caddy/caddyfile.py` owns the text.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import pulumi
import pulumi_random as random

from caddy import caddyfile
from caddy.caddyfile import CaddyfileValues
from components.managed_caddy import ManagedCaddyArgs, declare_managed_caddy
from components.notebook import notebook_url
from components.prefect import prefect_url
from components.program import declare_program
from components.scheduler import dashboard_url
from components.service import DeclaredService, MountedFile, Network, mount_secret
from config import workloads
from config.names import DEFAULT_CLUSTER, prefixed
from config.settings import CaddySettings, IngressSettings, Settings
from config.types import split_address
from swarm.site import Site

SESSION_FILE = "front_session"  # in /run/secrets, where only Caddy mounts it


@dataclass(frozen=True, kw_only=True)
class IngressArgs:
    """The settings of the stack and the facts of its Swarm."""

    settings: Settings
    site: Site


class Ingress(pulumi.ComponentResource):
    """Caddy's part of the stack; without a domain only the network of an existing Caddy.

    `urls` has the URL of each site. `user` and `password` are those of a basic login, else empty.
    `keys` has the Swarm secret by which a site, notebook or prefect, knows Caddy's requests.
    """

    network_id: pulumi.Input[str] | None
    networks: tuple[Network, ...] = ()
    services: tuple[DeclaredService, ...] = ()
    keys: Mapping[str, MountedFile]
    urls: dict[str, str]
    user: str = ""
    password: pulumi.Input[str] = ""
    caddyfile: pulumi.Input[str] = ""

    def __init__(
        self, name: str, args: IngressArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        # URNs contain types and logical names, so these keep the word `front`.
        super().__init__("dask:swarm:Front", name, None, opts)
        self.network_id = args.site.caddy_network_id
        self.urls, self.keys = site_urls(args.settings), {}
        if args.settings.ingress:
            child = pulumi.ResourceOptions(parent=self)
            self._declare_sites(name, args, args.settings.ingress, child)
        self.register_outputs(
            {"notebook_url": self.urls["notebook"], "dashboard_url": self.urls["dashboard"]}
        )

    def _declare_sites(
        self,
        name: str,
        args: IngressArgs,
        ingress: IngressSettings,
        child: pulumi.ResourceOptions,
    ) -> None:
        settings, values = args.settings, caddyfile_values(args.settings, ingress)
        keys = {site: _generated(_key_name(name, site), 48, child) for site in values.keys}
        self.keys = {
            site: mount_secret(_key_name(name, site), caddyfile.KEY_FILES[site], key, child)
            for site, key in keys.items()
        }
        files = {
            **caddyfile.sites(values),
            "login.caddy": self._login(name, values, ingress, child),
            "key.caddy": _key_fragment(values, keys),
        }
        self.caddyfile = pulumi.Output.all(**files).apply(caddyfile.join)
        if settings.caddy.mode == "managed":
            session = _generated(f"{name}-session", 48, child)
            session_file = mount_secret(f"{name}-session", SESSION_FILE, session, child)
            caddy_args = ManagedCaddyArgs(
                settings=settings,
                image=args.site.caddy_image,
                image_platforms=args.site.caddy_image_platforms,
                files={**caddyfile.options(values), **files},
                secrets=(*self.keys.values(), session_file),
            )
            caddy = declare_managed_caddy(name, caddy_args, child)
            self.network_id, self.services = caddy.network.id, caddy.services
            self.networks = (caddy.network,)
        if settings.installs_sites:
            _declare_install(f"{name}-delivery", settings, self.caddyfile, child)

    def _login(
        self,
        name: str,
        values: CaddyfileValues,
        ingress: IngressSettings,
        child: pulumi.ResourceOptions,
    ) -> pulumi.Input[str]:
        """Return the login's fragment; that of a basic login needs a hash of the password."""
        if ingress.auth != "basic":
            return caddyfile.login(values)
        self.user, self.password = ingress.basic_user, _password(name, ingress, child)
        # A salt in the state, so that the hash stays the same from run to run.
        salt = random.RandomId(f"{name}-salt", byte_length=16, opts=child)
        return pulumi.Output.all(self.password, salt.hex).apply(
            lambda known: caddyfile.login(values, caddyfile.bcrypt_hash(known[0], known[1]))
        )


def site_names(settings: Settings) -> dict[str, str]:
    """Return the DNS name of each site, none without an ingress."""
    ingress = settings.ingress
    if ingress is None:
        return {}
    labels = {"notebook": ingress.notebook_name, "dashboard": ingress.dashboard_name}
    if settings.prefect.mode == "managed":
        labels["prefect"] = settings.prefect.name
    cluster = settings.cluster.name
    return {site: f"{prefixed(cluster, label)}.{ingress.domain}" for site, label in labels.items()}


def site_urls(settings: Settings) -> dict[str, str]:
    """Return the URL of each site: Caddy's, or its service's if there is no ingress."""
    urls = {
        "notebook": notebook_url(workloads.notebook(settings).name),
        "dashboard": dashboard_url(workloads.scheduler(settings).name),
    }
    if settings.prefect.mode == "managed":
        urls["prefect"] = prefect_url(workloads.prefect(settings).name)
    for site, name in site_names(settings).items():
        urls[site] = f"https://{name}{urlsplit(urls[site]).path}"
    return urls


def _key_name(name: str, site: str) -> str:
    """Return the logical name of a site's key."""
    return f"{name}-key" if site == "notebook" else f"{name}-{site}-key"


def _key_fragment(
    values: CaddyfileValues, keys: Mapping[str, pulumi.Output[str]]
) -> pulumi.Input[str]:
    """Return the fragment of the keys, a secret only if it holds a key itself."""
    texts = {site: key for site, key in keys.items() if values.keys[site] == "text"}
    if not texts:
        return caddyfile.keys(values)
    return pulumi.Output.all(**texts).apply(lambda known: caddyfile.keys(values, known))


def _declare_install(
    name: str, settings: Settings, text: pulumi.Input[str], opts: pulumi.ResourceOptions
) -> None:
    """Declare that an existing Caddy has `text` as one file until the stack is destroyed."""
    place = install_place(settings)
    declare_program(
        name,
        "caddy.install",
        pulumi.Output.json_dumps({**place, "text": text}, sort_keys=True),
        on={"create": "put", "delete": "remove"},
        # Another place is another file: the old file is removed once the new file is in place.
        triggers=[json.dumps(place, sort_keys=True)],
        # For a Caddy in a container of the manager.
        docker_host=settings.cluster.docker_host,
        opts=opts,
    )


def install_place(settings: Settings) -> dict[str, str]:
    """Return where `caddy/install.py` puts the text; an empty host is this machine."""
    caddy, manager = settings.caddy, settings.cluster.docker_host
    cluster = settings.cluster.name
    # The default is left out: another place would install the file of an existing stack again.
    file = {} if cluster == DEFAULT_CLUSTER else {"file": f"{cluster}-swarm.caddy"}
    return {
        **file,
        "host": caddy.host or (manager if manager.startswith("ssh://") else ""),
        "directory": caddy.directory,
        "main_file": caddy.main_file,
        "service": caddy.service,
    }


def caddyfile_values(settings: Settings, ingress: IngressSettings) -> CaddyfileValues:
    """Return the values of the Caddyfile for these settings."""
    endpoint = ingress.authelia_endpoint
    # Before 4.38 Authelia does not know the URL of its portal.
    legacy = f"?rd={ingress.authelia_portal}" if endpoint == "/api/verify" else ""
    address, path = split_address(ingress.authelia_address)
    return CaddyfileValues(
        cluster=settings.cluster.name,
        names=site_names(settings),
        login=_login_variant(ingress, settings.caddy),
        certificates="internal" if ingress.is_local else "acme",
        keys=_key_variants(settings),
        authelia_address=address,
        authelia_uri=path + endpoint + legacy,
        authelia_cookie=ingress.authelia_cookie.replace(".", "[.]"),  # in a regular expression
        basic_user=ingress.basic_user,
        acme_email=ingress.acme_email,
        acme_directory=ingress.acme_directory,
    )


def _login_variant(ingress: IngressSettings, caddy: CaddySettings) -> str:
    # The cookie's secret is a Swarm secret, which only a managed Caddy can mount.
    by_cookie = ingress.auth == "basic" and caddy.mode == "managed"
    return "basic-cookie" if by_cookie else ingress.auth


def _key_variants(settings: Settings) -> dict[str, str]:
    # An existing Caddy has no file with the key on its host.
    variant = "file" if settings.caddy.mode == "managed" else "text"
    keys = {"notebook": "none" if settings.notebook_asks else variant}
    return keys | ({"prefect": variant} if settings.prefect.mode == "managed" else {})


def _password(
    name: str, ingress: IngressSettings, opts: pulumi.ResourceOptions
) -> pulumi.Output[str]:
    if ingress.basic_password:
        return pulumi.Output.secret(ingress.basic_password)
    return _generated(f"{name}-password", 24, opts)


def _generated(name: str, length: int, opts: pulumi.ResourceOptions) -> pulumi.Output[str]:
    return random.RandomPassword(name, length=length, special=False, opts=opts).result
