"""The overlay networks of this stack.

Owns the networks and nothing on them. A change of any input replaces a network, with an outage of
everything attached: there are as few inputs as possible.
"""

from collections.abc import Iterable

import pulumi
import pulumi_docker as docker
import pulumi_random as random

from swarm.leftovers import OWNER_LABEL

NETWORK_NAME = "dask-network"


class DaskNetwork(pulumi.ComponentResource):
    """The overlay network `dask-network`, to which only Swarm services can attach."""

    network_id: pulumi.Output[str]
    subnets: pulumi.Output[list[str]]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("dask:swarm:DaskNetwork", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        network = declare_network(f"{name}-overlay", NETWORK_NAME, child)
        self.network_id = network.id
        self.subnets = network.ipam_configs.apply(subnets)
        self.register_outputs({"network_id": self.network_id})


def declare_network(name: str, network_name: str, opts: pulumi.ResourceOptions) -> docker.Network:
    """Declare an overlay network under the logical name `name`.

    A label with a random value shows that this stack created the network: `swarm/leftovers.py`.
    """
    owner = random.RandomUuid(f"{name}-owner", opts=opts)
    # Existing and adopted networks stay as they are: no property can be changed in place.
    unchanged = pulumi.ResourceOptions(ignore_changes=["attachable", "labels"])
    return docker.Network(
        name,
        name=network_name,
        driver="overlay",
        labels=[docker.NetworkLabelArgs(label=OWNER_LABEL, value=owner.result)],
        opts=pulumi.ResourceOptions.merge(opts, unchanged),
    )


def subnets(ranges: "Iterable[docker.outputs.NetworkIpamConfig] | None") -> list[str]:
    """Return the IPv4 ranges of a network's addresses."""
    found = sorted(part.subnet for part in ranges or () if part.subnet and ":" not in part.subnet)
    if not found:
        raise pulumi.RunError(
            f"The network {NETWORK_NAME} has no range of addresses in the state; "
            "fix: pulumi refresh"
        )
    return found
