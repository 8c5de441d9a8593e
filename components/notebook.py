"""The Jupyter notebook server next to the cluster; `Client()` in it finds the scheduler.

Owns the server's configuration, its token or password, its home and its service. The secret has
one path: generated or from the config, a Swarm secret, a file in the container.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pulumi
import pulumi_docker as docker
import pulumi_random as random

from components.parsing import Platform
from components.swarm import (
    Attachment,
    DeclaredService,
    HealthCheck,
    MountedFile,
    ResourceLimit,
    Rolling,
    ServiceSpec,
    Volume,
    declare_service,
)

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
    scheduler_address: str
    network_id: pulumi.Input[str]
    caddy_network_id: pulumi.Input[str] | None


class Notebook(pulumi.ComponentResource):
    """The service `dask_notebook`, its configuration and its login."""

    service: DeclaredService
    secret: docker.Secret
    secret_kind: str
    token: pulumi.Output[str] | None
    url = f"http://dask_notebook:{PORT}"

    def __init__(
        self, name: str, args: NotebookArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("dask:swarm:Notebook", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.token = None if args.password else _generated_token(f"{name}-token", child)
        self.secret_kind = "password" if args.password else "token"
        self.secret = docker.Secret(
            f"{name}-{self.secret_kind}",
            data=_base64(self.token or pulumi.Output.secret(args.password)),
            opts=child,
        )
        config = docker.ServiceConfig(
            f"{name}-config", data=_base64(CONFIG_SOURCE.read_text(encoding="utf-8")), opts=child
        )
        secret_file = MountedFile(
            id=self.secret.id, name=self.secret.name, file_name=f"notebook_{self.secret_kind}"
        )
        config_file = MountedFile(id=config.id, name=config.name, file_name=CONFIG_TARGET)
        self.service = declare_service(
            f"{name}-service", _spec(args, secret_file, config_file), child
        )
        self.register_outputs({"url": self.url})


def _generated_token(name: str, opts: pulumi.ResourceOptions) -> pulumi.Output[str]:
    return random.RandomPassword(name, length=48, special=False, opts=opts).result


def _base64(text: pulumi.Input[str]) -> pulumi.Output[str]:
    return pulumi.Output.from_input(text).apply(lambda t: base64.b64encode(t.encode()).decode())


def _spec(args: NotebookArgs, secret: MountedFile, config: MountedFile) -> ServiceSpec:
    networks = [Attachment(network_id=args.network_id)]
    if args.caddy_network_id is not None:
        networks.append(Attachment(network_id=args.caddy_network_id))
    return ServiceSpec(
        name="dask_notebook",
        image=args.image,
        args=notebook_args(),
        environment={"DASK_SCHEDULER_ADDRESS": args.scheduler_address},
        limit=args.limit,
        reservation=args.reservation,
        health_check=HealthCheck(port=PORT, path="/api"),
        networks=networks,
        constraints=args.constraints,
        platform=args.platform,
        secrets=[secret],
        configs=[config],
        # A notebook that does not start must not cost the kernels of the old one.
        rolling=Rolling(start_first=True),
        volumes=[HOME],
    )


def notebook_args() -> list[str]:
    """Return the server's command line; what else it needs stands in its config file."""
    return ["jupyter", "lab", "--config", CONFIG_TARGET]
