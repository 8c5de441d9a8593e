"""The overlay networks of this stack.

Owns the networks and nothing on them. A change of any input replaces a network, with an outage of
everything attached: there are as few inputs as possible.
"""

import pulumi
import pulumi_docker as docker
import pulumi_random as random

OWNER_LABEL = "dask.swarm/owner"


class DaskNetwork(pulumi.ComponentResource):
    """The cluster's overlay network, to which only Swarm services can attach."""

    network_id: pulumi.Output[str]

    def __init__(
        self, name: str, network_name: str, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("dask:swarm:DaskNetwork", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.network_id = declare_network(f"{name}-overlay", network_name, child)
        self.register_outputs({"network_id": self.network_id})


def declare_network(
    name: str, network_name: str, opts: pulumi.ResourceOptions
) -> pulumi.Output[str]:
    """Declare an overlay network under the logical name `name`; return its id.

    A label with a random value shows that this stack created the network: `swarm/leftovers.py`.
    """
    owner = random.RandomUuid(f"{name}-owner", opts=opts)
    # Existing and adopted networks stay as they are: no property can be changed in place.
    unchanged = pulumi.ResourceOptions(ignore_changes=["attachable", "labels"])
    network = docker.Network(
        name,
        name=network_name,
        driver="overlay",
        labels=[docker.NetworkLabelArgs(label=OWNER_LABEL, value=owner.result)],
        opts=pulumi.ResourceOptions.merge(opts, unchanged),
    )
    return network.id
