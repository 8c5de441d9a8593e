"""The Jupyter notebook server; `Client()` in a notebook finds the scheduler.

Owns the server's configuration, its token or password, its home and its service. Token and
password have one path: generated or from the config, a Swarm secret, a file in the container.
`ingress.py` owns the ingress key, by which Caddy opens the notebook to logged-in users.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pulumi
import pulumi_random as random

from components.certificates import identity_of
from components.dask_config import Config
from components.health_check import HealthCheck
from components.scheduler import ALIAS, DASHBOARD_PORT
from components.service import (
    DeclaredService,
    MountedFile,
    ServiceSpec,
    Volume,
    attachments,
    declare_service,
    mount_config,
    mount_secret,
)
from components.shared import Shared
from config.names import network_name, volume_name
from config.workloads import Workload

PORT = 8888
CONFIG_SOURCE = Path(__file__).parent.parent / "images" / "jupyter_server_config.py"
CONFIG_TARGET = "/etc/jupyter/jupyter_server_config.py"
HOME = "/home/jovyan"


@dataclass(frozen=True, kw_only=True)
class NotebookArgs:
    """What the notebook shares with the cluster, its workload, image, password and ingress key.

    `image_platforms` are its image's, as the registry names them.
    With an empty `password` a token is generated.
    """

    shared: Shared
    workload: Workload
    image: str
    image_platforms: Sequence[str]
    password: str
    ingress_key: MountedFile | None


class Notebook(pulumi.ComponentResource):
    """The notebook's service, its configuration and its login."""

    service: DeclaredService
    secret: MountedFile
    login_kind: str
    token: pulumi.Output[str] | None
    url: str

    def __init__(
        self, name: str, args: NotebookArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("dask:swarm:Notebook", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.url = notebook_url(args.workload.name)
        settings = CONFIG_SOURCE.read_text(encoding="utf-8")
        identity = identity_of(args.shared.certificates, "client")
        ours = dask_config(args.shared.scheduler_address)
        files = [
            mount_config(f"{name}-config", CONFIG_TARGET, settings, child),
            *args.shared.dask_configs(name, "client", ours, child),
            # Without Caddy's network the proof reaches the server on the cluster's network.
            *([args.shared.subnets] if args.shared.caddy_network_id else []),
        ]
        self.secret = self._secret(name, args, child)
        ingress_keys = [args.ingress_key] if args.ingress_key else []
        secrets = [
            self.secret,
            *ingress_keys,
            *identity.secrets,
            *args.shared.work_secrets,
        ]
        spec = _spec(args, secrets, files)
        self.service = declare_service(f"{name}-service", spec, child)
        self.register_outputs({"url": self.url})

    def _secret(self, name: str, args: NotebookArgs, child: pulumi.ResourceOptions) -> MountedFile:
        self.token = None if args.password else _generated_token(f"{name}-token", child)
        self.login_kind = "password" if args.password else "token"
        text, kind = self.token or args.password, self.login_kind
        return mount_secret(f"{name}-{kind}", f"notebook_{kind}", text, child)


def dask_config(scheduler_address: str) -> Config:
    """Return Dask's configuration for kernels: `Client()` connects to this cluster.

    The dashboard's link leads through the notebook's proxy, which works with and without ingress.
    """
    link = f"/proxy/{ALIAS}:{DASHBOARD_PORT}/status"
    return {
        "scheduler-address": scheduler_address,
        "distributed": {"dashboard": {"link": link}},
    }


def notebook_url(service: str) -> str:
    """Return the notebook's URL on the networks of its service."""
    return f"http://{service}:{PORT}"


def _generated_token(name: str, opts: pulumi.ResourceOptions) -> pulumi.Output[str]:
    return random.RandomPassword(name, length=48, special=False, opts=opts).result


def _spec(
    args: NotebookArgs, secrets: Sequence[MountedFile], configs: Sequence[MountedFile]
) -> ServiceSpec:
    shared, cluster = args.shared, args.shared.cluster
    return ServiceSpec(
        workload=args.workload,
        image=args.image,
        args=notebook_args(),
        packages=shared.packages,
        start_seconds=shared.start_seconds,
        health_check=HealthCheck(port=PORT, path="/api"),
        networks=attachments(shared.network, shared.caddy_network_id, *shared.other_network_ids),
        platforms=shared.platforms,
        image_platforms=args.image_platforms,
        secrets=secrets,
        configs=[*configs, *shared.object_store.configs],
        # Not a resource: the node creates it when a task needs it, and it outlives the stack.
        volumes=[Volume(name=volume_name(cluster, "notebook"), target=HOME)],
        # Caddy's network may have a `scheduler` too, which could be found first.
        search_domains=[network_name(cluster)],
    )


def notebook_args() -> list[str]:
    """Return the server's command line; its config file holds the rest."""
    return ["jupyter", "lab", "--config", CONFIG_TARGET]
