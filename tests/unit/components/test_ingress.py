"""The names, addresses and variants of the Caddyfile, from the settings alone."""

import pytest

from components import ingress
from config.settings import parse_settings

AUTHELIA = {"domain": "example.org", "autheliaPortal": "https://auth.example.org"}
MANAGED = {"caddyMode": "managed", "domain": "dask.localhost", "auth": "basic"}


@pytest.fixture
def settings(defaults):
    """Return a function from changed config values to settings."""
    return lambda **config: parse_settings(defaults | config, (), {})


@pytest.fixture
def values(settings):
    """Return a function from changed config values to the values of the Caddyfile."""

    def values_of(**config):
        made = settings(**config)
        return ingress.caddyfile_values(made, made.ingress)

    return values_of


def test_every_site_has_its_own_name(settings):
    """Prefect only where the stack runs its server."""
    names = {"notebook": "lab.example.org", "dashboard": "dash.example.org"}
    config = AUTHELIA | {"notebookName": "lab", "dashboardName": "dash", "prefectName": "flows"}
    assert names == ingress.site_names(settings(**config))
    managed = settings(**config, prefect="managed")
    assert names | {"prefect": "flows.example.org"} == ingress.site_names(managed)
    assert {} == ingress.site_names(settings())


def test_a_site_without_an_ingress_has_the_address_of_its_service(settings):
    """On the Swarm's networks."""
    inside = {"notebook": "http://dask_notebook:8888", "prefect": "http://dask_prefect:4200"}
    inside["dashboard"] = "http://dask_scheduler:8787/status"
    assert inside == ingress.site_urls(settings(prefect="managed"))
    urls = ingress.site_urls(settings(**AUTHELIA))
    assert "https://dashboard.example.org/status" == urls["dashboard"]
    assert {"notebook", "dashboard"} == urls.keys()


@pytest.mark.parametrize(
    ("config", "login", "certificates", "key", "prefect_key"),
    [
        (AUTHELIA, "authelia", "acme", "text", "text"),
        (AUTHELIA | {"auth": "basic"}, "basic", "acme", "text", "text"),
        (AUTHELIA | {"notebookLogin": "true"}, "authelia", "acme", "none", "text"),
        (MANAGED, "basic-cookie", "internal", "file", "file"),
        (MANAGED | {"notebookLogin": "true"}, "basic-cookie", "internal", "none", "file"),
        (MANAGED | {"auth": "none"}, "none", "internal", "none", "file"),
        ({"domain": "localhost", "auth": "none"}, "none", "internal", "none", "text"),
    ],
)
def test_the_variants_follow_from_login_and_caddy(
    values, config, login, certificates, key, prefect_key
):
    """Without a login at the ingress Caddy never opens the notebook; Prefect has no login."""
    made = values(**config)
    assert (login, certificates, {"notebook": key}) == (made.login, made.certificates, made.keys)
    keys = {"notebook": key, "prefect": prefect_key}
    assert keys == values(**config, prefect="managed").keys


def test_authelia_is_asked_at_its_endpoint(values):
    """The old endpoint does not know the portal."""
    made = values(**AUTHELIA, autheliaAddress="https://h:1/path", autheliaCookie="sso")
    assert ("https://h:1", "/path/api/authz/forward-auth", "sso") == (
        made.authelia_address, made.authelia_uri, made.authelia_cookie,
    )  # fmt: skip
    old = values(**AUTHELIA, autheliaEndpoint="/api/verify")
    assert "/api/verify?rd=https://auth.example.org" == old.authelia_uri


def test_a_real_domain_names_its_authority(values):
    """Email and directory of ACME, and the user of a basic login."""
    config = {"caddyMode": "managed", "acmeEmail": "a@b.org", "basicUser": "ada"}
    made = values(**AUTHELIA, **config, acmeDirectory="https://ca.example.org/directory")
    assert ("a@b.org", "https://ca.example.org/directory", "ada") == (
        made.acme_email, made.acme_directory, made.basic_user,
    )  # fmt: skip


def test_the_file_is_installed_where_caddy_is(settings):
    """On the manager, if it is reached by SSH, or on another host."""
    config = AUTHELIA | {"caddyDirectory": "/srv/sites", "caddyService": "edge"}
    place = ingress.install_place(settings(**config, dockerHost="ssh://deploy@manager"))
    assert {
        "host": "ssh://deploy@manager",
        "directory": "/srv/sites",
        "main_file": "/etc/caddy/Caddyfile",
        "service": "edge",
    } == place
    assert "" == ingress.install_place(settings(**config))["host"]
    other = settings(**config, dockerHost="tcp://m:2376", caddyHost="ssh://edge")
    assert "ssh://edge" == ingress.install_place(other)["host"]
