"""The Docker provider: its engine, the options of its `ssh`, and the registries' logins.

Owns how a login reaches the provider. For most registries the provider reads Docker's config file
itself, so no password is in the state. Swarm services of this provider have an input `auth` too,
but each change of it replaces the service.
"""

import pulumi
import pulumi_docker as docker

from config.settings import Settings
from swarm import registry
from swarm.client import ssh_options
from swarm.offline import provider_host
from swarm.site import Site

Login = docker.ProviderRegistryAuthArgs


def declare_provider(name: str, settings: Settings, site: Site) -> docker.Provider:
    """Declare the provider of all services, networks, configs and secrets."""
    return docker.Provider(
        name,
        host=provider_host(settings),
        ssh_opts=ssh_options(settings.cluster.docker_host),
        registry_auth=[registry_login(address) for address in site.logins] or None,
    )


def registry_login(address: str) -> Login:
    """Return the login for images whose references begin with `address`."""
    if registry.registry_at(address) != registry.HUB:
        return Login(address=address, config_file=registry.config_file())
    # The provider takes a namespace of Docker Hub for a registry, and no config file has that.
    login = registry.find_login(address)
    return Login(
        address=address,
        username=login["username"],
        password=pulumi.Output.secret(login["password"]),
    )
