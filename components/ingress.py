"""The front: notebook and dashboard on HTTPS names of their own, behind a login.

Owns which names there are, who may pass, the key that opens the notebook to them, and what an
existing Caddy (`external`) is given: one file, by `caddy/install.py`. The stack's own Caddy
(`managed`) is in `managed_caddy.py`, the text itself in `caddy/caddyfile.py`.
"""

import json
from dataclasses import dataclass

import pulumi
import pulumi_command as command
import pulumi_random as random

from caddy import caddyfile
from caddy.caddyfile import FrontText
from components.cluster import DaskCluster
from components.managed_caddy import OwnCaddyArgs, declare_own_caddy
from components.notebook import Notebook
from components.prefect import Prefect
from components.service import DeclaredService, MountedFile, mount_secret
from config.settings import Settings
from config.types import split_address
from swarm.site import Site

# In /run/secrets: the notebook's and Caddy's, and Caddy's alone.
KEY_FILE, SESSION_FILE = "front_key", "front_session"
INSTALL = "exec .venv/bin/python -m caddy.install"


@dataclass(frozen=True, kw_only=True)
class FrontArgs:
    """The settings of the stack and what was found on its Swarm."""

    settings: Settings
    site: Site


class Front(pulumi.ComponentResource):
    """Caddy's part of the stack; without a domain only the network to which Caddy is attached.

    `user` and `password` are those of a basic login, else empty. `key` is the Swarm secret by
    which the notebook knows whom Caddy has let in.
    """

    network_id: pulumi.Input[str] | None
    services: tuple[DeclaredService, ...] = ()
    key: MountedFile | None = None
    notebook_url: str = Notebook.url
    dashboard_url: str = DaskCluster.dashboard_url
    prefect_url: str | None
    user: str = ""
    password: pulumi.Input[str] = ""
    caddyfile: pulumi.Input[str] = ""

    def __init__(
        self, name: str, args: FrontArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("dask:swarm:Front", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        settings = args.settings
        self.network_id = args.site.caddy_network_id
        self.prefect_url = Prefect.url if settings.prefect == "managed" else None
        if settings.has_ingress:
            text = front_text(settings)
            key = _generated(f"{name}-key", 48, child)
            self.key = mounted = mount_secret(f"{name}-key", KEY_FILE, key, child)
            files = {
                **caddyfile.sites(text),
                "login.caddy": self._login(name, text, settings, child),
                "key.caddy": _key_fragment(text, key),
            }
            self.caddyfile = pulumi.Output.all(**files).apply(caddyfile.joined)
            self.notebook_url = f"https://{text.notebook_name}"
            self.dashboard_url = f"https://{text.dashboard_name}/status"
            self.prefect_url = f"https://{text.prefect_name}" if text.prefect_name else None
            if settings.caddy_mode == "managed":
                session = _generated(f"{name}-session", 48, child)
                own = declare_own_caddy(
                    name,
                    OwnCaddyArgs(
                        settings=settings,
                        image=args.site.caddy_image,
                        files={**caddyfile.options(text), **files},
                        secrets=(
                            mounted,
                            mount_secret(f"{name}-session", SESSION_FILE, session, child),
                        ),
                    ),
                    child,
                )
                self.network_id, self.services = own.network_id, own.services
            if settings.installs_sites:
                _deliver(f"{name}-delivery", settings, self.caddyfile, child)
        self.register_outputs(
            {"notebook_url": self.notebook_url, "dashboard_url": self.dashboard_url}
        )

    def _login(
        self, name: str, text: FrontText, settings: Settings, child: pulumi.ResourceOptions
    ) -> pulumi.Input[str]:
        """Return the login's fragment, of which only a basic one's is not known beforehand."""
        if settings.auth != "basic":
            return caddyfile.login(text)
        self.user, self.password = settings.basic_user, _password(name, settings, child)
        # The salt is kept, or every run would make another hash.
        salt = random.RandomId(f"{name}-salt", byte_length=16, opts=child)
        return pulumi.Output.all(self.password, salt.hex).apply(
            lambda known: caddyfile.login(text, caddyfile.bcrypt_hash(known[0], known[1]))
        )


def _key_fragment(text: FrontText, key: pulumi.Output[str]) -> pulumi.Input[str]:
    """Return the key's fragment, a secret only where it holds the key itself."""
    if text.key != "text":
        return caddyfile.key(text)
    return key.apply(lambda known: caddyfile.key(text, known))


def _deliver(
    name: str, settings: Settings, text: pulumi.Input[str], opts: pulumi.ResourceOptions
) -> None:
    """Have the file put into its place, again when it changes, and removed in the end."""
    place = install_place(settings)
    request = pulumi.Output.json_dumps({**place, "text": text}, sort_keys=True)
    command.local.Command(
        name,
        create=f"{INSTALL} put",
        delete=f"{INSTALL} remove",
        # A Caddy in a container of the manager is asked there.
        environment={"DOCKER_HOST": settings.docker_host},
        stdin=request,
        # Another place is another file: the old one is removed when the new one is there.
        triggers=[json.dumps(place, sort_keys=True)],
        logging=command.local.Logging.STDERR,
        add_previous_output_in_env=False,
        opts=opts,
    )


def install_place(settings: Settings) -> dict[str, str]:
    """Return what `caddy/install.py` needs besides the text; an empty host is this machine."""
    manager = settings.docker_host if settings.docker_host.startswith("ssh://") else ""
    return {
        "host": settings.caddy_host or manager,
        "directory": settings.caddy_directory,
        "main_file": settings.caddy_main_file,
        "service": settings.caddy_service,
    }


def front_text(settings: Settings) -> FrontText:
    """Return what the fragments say for these settings."""
    endpoint = settings.authelia_endpoint
    # Only since 4.38 does Authelia know by itself where its portal is.
    legacy = f"?rd={settings.authelia_portal}" if endpoint == "/api/verify" else ""
    address, path = split_address(settings.authelia_address)
    return FrontText(
        notebook_name=f"{settings.notebook_name}.{settings.domain}",
        dashboard_name=f"{settings.dashboard_name}.{settings.domain}",
        login=_login_variant(settings),
        certificates="internal" if settings.is_local else "acme",
        key=_key_variant(settings),
        authelia_address=address,
        authelia_uri=path + endpoint + legacy,
        authelia_cookie=settings.authelia_cookie,
        basic_user=settings.basic_user,
        acme_email=settings.acme_email,
        acme_directory=settings.acme_directory,
        prefect_name=f"{settings.prefect_name}.{settings.domain}"
        if settings.prefect == "managed"
        else "",
    )


def _login_variant(settings: Settings) -> str:
    # The cookie's secret is a file, as the key is.
    by_cookie = settings.auth == "basic" and settings.caddy_mode == "managed"
    return "basic-cookie" if by_cookie else settings.auth


def _key_variant(settings: Settings) -> str:
    if settings.notebook_asks:
        return "none"
    # No file of ours is on the host of a Caddy that was there before.
    return "file" if settings.caddy_mode == "managed" else "text"


def _password(name: str, settings: Settings, opts: pulumi.ResourceOptions) -> pulumi.Output[str]:
    if settings.basic_password:
        return pulumi.Output.secret(settings.basic_password)
    return _generated(f"{name}-password", 24, opts)


def _generated(name: str, length: int, opts: pulumi.ResourceOptions) -> pulumi.Output[str]:
    return random.RandomPassword(name, length=length, special=False, opts=opts).result
