"""The overlay networks of this stack.

Owns the networks and nothing on them. A change of any input replaces a network, with an outage of
everything attached: there are as few inputs as possible.
"""

from collections.abc import Iterable, Mapping, Sequence

import pulumi
import pulumi_docker as docker
import pulumi_random as random

from components.program import declare_program
from components.service import Network
from config.names import network_name
from config.settings import Settings
from config.types import DEFAULT_MTU, MTU_OPTION
from swarm.networks import OWNER_LABEL
from swarm.site import Site

# No property can be changed in place. A refresh writes what Swarm has chosen into the last two,
# which would show as a change.
UNCHANGED = ("attachable", "labels", "options", "ipamConfigs")


class DaskNetwork(pulumi.ComponentResource):
    """The cluster's overlay network; an external network exists and stays as it is."""

    network: Network

    def __init__(
        self,
        name: str,
        settings: Settings,
        site: Site,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("dask:swarm:DaskNetwork", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        options = settings.network.options
        if site.replaces_network:  # without any, the provider would keep the network's options
            options = {MTU_OPTION: str(DEFAULT_MTU), **options}
        self.network = (
            Network(id=site.network_id, subnets=site.network_subnets)
            if site.network_id
            else declare_network(
                f"{name}-overlay",
                network_name(settings.cluster.name),
                child,
                docker_host=settings.cluster.docker_host,
                subnet=settings.network.subnet,
                options=options,
                unchanged=UNCHANGED[:2] if site.replaces_network else UNCHANGED,
            )
        )
        self.register_outputs({"network_id": self.network.id})


def declare_network(
    name: str,
    network_name: str,
    opts: pulumi.ResourceOptions,
    *,
    docker_host: str,
    subnet: str = "",
    options: Mapping[str, str] | None = None,
    unchanged: Sequence[str] = UNCHANGED,
) -> Network:
    """Declare an overlay network under the logical name `name`.

    A label with a random value shows that this stack created the network: `swarm/leftovers.py`.
    The properties in `unchanged` stay as they are on a network that exists or was adopted.
    """
    owner = random.RandomUuid(f"{name}-owner", opts=opts)
    network = docker.Network(
        name,
        name=network_name,
        driver="overlay",
        ipam_configs=[docker.NetworkIpamConfigArgs(subnet=subnet)] if subnet else None,
        options=dict(options) if options else None,
        labels=[docker.NetworkLabelArgs(label=OWNER_LABEL, value=owner.result)],
        opts=pulumi.ResourceOptions.merge(
            opts, pulumi.ResourceOptions(ignore_changes=list(unchanged))
        ),
    )
    # The provider fails at once if a task is on the network. So the services are removed first,
    # then this program waits for their tasks.
    release = declare_program(
        f"{name}-release",
        "swarm.release",
        pulumi.Output.json_dumps({"network": network.id}),
        on={"delete": ""},
        triggers=[network.id],
        docker_host=docker_host,
        opts=opts,
    )
    identity = pulumi.Output.all(network.id, release.urn).apply(lambda known: str(known[0]))
    return Network(id=identity, resource=network, subnets=network.ipam_configs.apply(subnets_of))


def subnets_of(ranges: "Iterable[docker.outputs.NetworkIpamConfig] | None") -> list[str]:
    """Return the IPv4 ranges of a network's addresses."""
    found = sorted(part.subnet for part in ranges or () if part.subnet and ":" not in part.subnet)
    if not found:
        raise pulumi.RunError(
            "The cluster's network has no range of addresses in the state; fix: pulumi refresh"
        )
    return found
