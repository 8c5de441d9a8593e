"""What the services of the cluster share: settings and wiring that each needs in the same form."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi

from components.certificates import Certificates, Role, identity_of
from components.dask_config import Config, mount_dask_config
from components.object_store import ObjectStore
from components.service import MountedFile, Network, Volume

# Where pip installs users' packages in the project's own image.
DASK_HOME = Volume(target="/home/dask")


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Settings and wiring of the whole cluster; `caddy_network_id` is None without Caddy.

    `image` is that of all services but the notebook. `subnets` are those of the cluster's network.
    Workers and notebook join the other networks.
    """

    cluster: str  # its name
    image: str
    platforms: Sequence[str]
    image_platforms: Sequence[str]  # of the image, as its registry names them
    packages: Sequence[str]
    start_seconds: int  # that the installation of the packages may take
    pip_config: Sequence[MountedFile]
    dask_config: Config
    environment: MountedFile | None
    object_store: ObjectStore
    certificates: Certificates | None
    scheduler_address: str
    network: Network
    other_network_ids: Sequence[str]
    subnets: MountedFile
    caddy_network_id: pulumi.Input[str] | None

    def dask_configs(
        self, name: str, role: Role, ours: Config, opts: pulumi.ResourceOptions
    ) -> list[MountedFile]:
        """Declare a service's Dask configuration; return it after the files that it names."""
        identity = identity_of(self.certificates, role)
        layers = [ours, identity.dask_config, self.dask_config]
        return [*identity.configs, mount_dask_config(name, layers, opts)]

    @property
    def work_secrets(self) -> list[MountedFile]:
        """The secrets of the services that run users' code."""
        environment = [self.environment] if self.environment else []
        return [*environment, *self.object_store.secrets, *self.pip_config]
