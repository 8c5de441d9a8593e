"""The Jupyter notebook server next to the cluster; `Client()` in it finds the scheduler.

Owns the server's configuration, its token or password, its home and its service. The secret has
one path: generated or from the config, a Swarm secret, a file in the container. The front key,
which opens it to whom Caddy has let in, is `ingress.py`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pulumi
import pulumi_random as random

from components.dask_config import Config, mount_dask_config
from components.health_check import HealthCheck
from components.network import NETWORK_NAME
from components.object_store import ObjectStore
from components.scheduler import ALIAS, DASHBOARD_PORT
from components.service import (
    DeclaredService,
    MountedFile,
    Rolling,
    ServiceSpec,
    Volume,
    attachments,
    declare_service,
    mount_config,
    mount_secret,
    package_environment,
)
from config.types import Platform
from config.workloads import ResourceLimit

SERVICE = "dask_notebook"
PORT = 8888
CONFIG_SOURCE = Path(__file__).parent.parent / "images" / "jupyter_server_config.py"
CONFIG_TARGET = "/etc/jupyter/jupyter_server_config.py"
# Not a resource: the node makes it when a task needs it, and it outlives the stack.
HOME = Volume(name="dask-notebook", target="/home/jovyan")


@dataclass(frozen=True, kw_only=True)
class NotebookArgs:
    """What the notebook is made of; with an empty `password` a token is generated."""

    image: str
    limit: ResourceLimit
    reservation: ResourceLimit
    constraints: Sequence[str]
    platform: Platform
    password: str
    front_key: MountedFile | None
    scheduler_address: str
    packages: Sequence[str] = ()
    dask_config: Config = field(default_factory=dict)
    environment: MountedFile | None = None
    object_store: ObjectStore = field(default_factory=ObjectStore)
    network_id: pulumi.Input[str]
    caddy_network_id: pulumi.Input[str] | None


class Notebook(pulumi.ComponentResource):
    """The service `dask_notebook`, its configuration and its login."""

    service: DeclaredService
    secret: MountedFile
    login_kind: str
    token: pulumi.Output[str] | None
    url = f"http://dask_notebook:{PORT}"

    def __init__(
        self, name: str, args: NotebookArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("dask:swarm:Notebook", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        settings = CONFIG_SOURCE.read_text(encoding="utf-8")
        ours = dask_config(args.scheduler_address)
        files = [
            mount_config(f"{name}-config", CONFIG_TARGET, settings, child),
            mount_dask_config(name, ours, args.dask_config, child),
        ]
        self.secret = self._secret(name, args, child)
        optional = (args.front_key, args.environment)
        secrets = [self.secret, *(secret for secret in optional if secret)]
        spec = _spec(args, secrets, files)
        self.service = declare_service(f"{name}-service", spec, child)
        self.register_outputs({"url": self.url})

    def _secret(self, name: str, args: NotebookArgs, child: pulumi.ResourceOptions) -> MountedFile:
        self.token = None if args.password else _generated_token(f"{name}-token", child)
        self.login_kind = "password" if args.password else "token"
        text = self.token or pulumi.Output.secret(args.password)
        kind = self.login_kind
        return mount_secret(f"{name}-{kind}", f"notebook_{kind}", text, child)


def dask_config(scheduler_address: str) -> Config:
    """Return Dask's configuration of kernels: `Client()` is this cluster's.

    The dashboard's link leads through the notebook's own proxy, which every browser reaches that
    reaches the notebook, with or without a front.
    """
    link = f"/proxy/{ALIAS}:{DASHBOARD_PORT}/status"
    return {
        "scheduler-address": scheduler_address,
        "distributed": {"dashboard": {"link": link}},
    }


def _generated_token(name: str, opts: pulumi.ResourceOptions) -> pulumi.Output[str]:
    return random.RandomPassword(name, length=48, special=False, opts=opts).result


def _spec(
    args: NotebookArgs, secrets: Sequence[MountedFile], configs: Sequence[MountedFile]
) -> ServiceSpec:
    return ServiceSpec(
        name=SERVICE,
        image=args.image,
        args=notebook_args(),
        environment=package_environment(args.packages),
        limit=args.limit,
        reservation=args.reservation,
        health_check=HealthCheck(port=PORT, path="/api"),
        networks=attachments(args.network_id, args.caddy_network_id),
        constraints=args.constraints,
        platform=args.platform,
        secrets=[*secrets, *args.object_store.secrets],
        configs=[*configs, *args.object_store.configs],
        # A notebook that does not start must not cost the kernels of the old one.
        rolling=Rolling(start_first=True),
        volumes=[HOME],
        # Caddy's network may have a `scheduler` too, and its name may come first.
        search_domains=[NETWORK_NAME],
    )


def notebook_args() -> list[str]:
    """Return the server's command line; what else it needs stands in its config file."""
    return ["jupyter", "lab", "--config", CONFIG_TARGET]
