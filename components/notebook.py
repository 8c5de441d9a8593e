"""The Jupyter notebook server next to the cluster; `Client()` in it finds the scheduler.

Owns the server's configuration, its token or password, its home and its service. The secret has
one path: generated or from the config, a Swarm secret, a file in the container.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pulumi
import pulumi_docker as docker
import pulumi_random as random

from components.dask_config import Config, mount_dask_config
from components.health_check import HealthCheck
from components.object_store import ObjectStore
from components.parsing import Platform
from components.swarm import (
    Attachment,
    DeclaredService,
    MountedFile,
    ResourceLimit,
    Rolling,
    ServiceSpec,
    Volume,
    declare_service,
    encoded,
    mount_config,
    package_environment,
)

SERVICE = "dask_notebook"
PORT = 8888
CONFIG_SOURCE = Path(__file__).parent.parent / "images" / "jupyter_server_config.py"
CONFIG_TARGET = "/etc/jupyter/jupyter_server_config.py"
# Not a resource: the node makes it when a task needs it, and it outlives the stack.
HOME = Volume(name="dask-notebook", target="/home/jovyan")
# Its presence, not the absence of a secret, is what opens the notebook: nothing missing ever does.
LOGIN_ELSEWHERE = "/etc/jupyter/login_elsewhere"


@dataclass(frozen=True, kw_only=True)
class NotebookArgs:
    """What the notebook is made of; with an empty `password` a token is generated.

    Without `login` there is neither: a login in front of the notebook is the only one.
    """

    image: str
    limit: ResourceLimit
    reservation: ResourceLimit
    constraints: Sequence[str]
    platform: Platform
    password: str
    login: bool
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
    secret: MountedFile | None = None
    login_kind: str = "none"
    token: pulumi.Output[str] | None = None
    url = f"http://dask_notebook:{PORT}"

    def __init__(
        self, name: str, args: NotebookArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("dask:swarm:Notebook", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        settings = CONFIG_SOURCE.read_text(encoding="utf-8")
        ours = {"scheduler-address": args.scheduler_address}
        files = [
            mount_config(f"{name}-config", CONFIG_TARGET, settings, child),
            mount_dask_config(name, ours, args.dask_config, child),
        ]
        if args.login:
            self.secret = self._secret(name, args, child)
        else:
            text = "notebookLogin is false\n"
            files.append(mount_config(f"{name}-login-elsewhere", LOGIN_ELSEWHERE, text, child))
        secrets = [each for each in (self.secret, args.environment) if each]
        spec = _spec(args, secrets, files)
        self.service = declare_service(f"{name}-service", spec, child)
        self.register_outputs({"url": self.url})

    def _secret(self, name: str, args: NotebookArgs, child: pulumi.ResourceOptions) -> MountedFile:
        self.token = None if args.password else _generated_token(f"{name}-token", child)
        self.login_kind = "password" if args.password else "token"
        secret = docker.Secret(
            f"{name}-{self.login_kind}",
            data=encoded(self.token or pulumi.Output.secret(args.password)),
            opts=child,
        )
        file_name = f"notebook_{self.login_kind}"
        return MountedFile(id=secret.id, name=secret.name, file_name=file_name)


def _generated_token(name: str, opts: pulumi.ResourceOptions) -> pulumi.Output[str]:
    return random.RandomPassword(name, length=48, special=False, opts=opts).result


def _spec(
    args: NotebookArgs, secrets: Sequence[MountedFile], configs: Sequence[MountedFile]
) -> ServiceSpec:
    networks = [Attachment(network_id=args.network_id)]
    if args.caddy_network_id is not None:
        networks.append(Attachment(network_id=args.caddy_network_id))
    return ServiceSpec(
        name=SERVICE,
        image=args.image,
        args=notebook_args(),
        environment=package_environment(args.packages),
        limit=args.limit,
        reservation=args.reservation,
        health_check=HealthCheck(port=PORT, path="/api"),
        networks=networks,
        constraints=args.constraints,
        platform=args.platform,
        secrets=[*secrets, *args.object_store.secrets],
        configs=[*configs, *args.object_store.configs],
        # A notebook that does not start must not cost the kernels of the old one.
        rolling=Rolling(start_first=True),
        volumes=[HOME],
    )


def notebook_args() -> list[str]:
    """Return the server's command line; what else it needs stands in its config file."""
    return ["jupyter", "lab", "--config", CONFIG_TARGET]
