"""The overlay network that scheduler, workers and notebook share.

Owns the network and nothing on it. A change of any input replaces the network, with an outage of
everything attached: there are as few inputs as possible, and none is a setting.
"""

import pulumi
import pulumi_docker as docker

NETWORK_NAME = "dask-network"


class DaskNetwork(pulumi.ComponentResource):
    """The overlay network `dask-network`, to which only Swarm services can attach."""

    network_id: pulumi.Output[str]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("dask:swarm:DaskNetwork", name, None, opts)
        overlay = docker.Network(
            f"{name}-overlay",
            name=NETWORK_NAME,
            driver="overlay",
            # An adopted network stays as it is: no property can be changed in place.
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["attachable", "labels"]),
        )
        self.network_id = overlay.id
        self.register_outputs({"network_id": self.network_id})
