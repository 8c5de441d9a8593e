"""The health probe as a resource: a deployment is finished only when the cluster is proven.

Owns when the probe runs: beside the services, because it waits for them itself; again after a
change of anything that it depends on, drift included; and again after a failed attempt. The
program in `health/`, which does not know Pulumi, owns what it proves.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import pulumi_docker as docker

from components import notebook, prefect, scheduler
from components.certificates import identity_of
from components.cluster import DaskCluster
from components.ingress import Ingress
from components.program import declare_attempt, declare_program
from components.service import MountedFile, short_hash
from config.names import network_name, service_name
from config.settings import Settings
from swarm.proof_record import record_data, record_name, without_spec_hashes
from swarm.site import Site

PROJECT = Path(__file__).parent.parent
PROGRAM = ("health", "swarm")  # the folders that the launcher imports


@dataclass(frozen=True, kw_only=True)
class HealthProbeArgs:
    """The ingress and the cluster to prove, and what they were declared from."""

    settings: Settings
    site: Site
    ingress: Ingress
    cluster: DaskCluster


class HealthProbe(pulumi.ComponentResource):
    """A one-shot client on the overlay; `health` is what it proved in the attempt `attempt`."""

    health: pulumi.Output[dict[str, Any]]
    attempt: pulumi.Output[str]

    def __init__(
        self, name: str, args: HealthProbeArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("dask:swarm:HealthProbe", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        request = pulumi.Output.json_dumps(probe_request(args), sort_keys=True)
        self.attempt = self._attempt(f"{name}-attempt", request, args.site.drifted)
        proof = declare_program(
            f"{name}-run",
            "health",
            request,
            on={"create": ""},
            triggers=[self.attempt],
            docker_host=args.settings.cluster.docker_host,
            opts=child,
        ).stdout.apply(json.loads)
        record = pulumi.Output.all(proof, self.attempt).apply(lambda both: record_data(*both))
        docker.ServiceConfig(record_name(args.settings.cluster.name), data=record, opts=child)
        self.health = proof.apply(without_spec_hashes)
        self.register_outputs({"health": self.health})

    def _attempt(self, name: str, request: pulumi.Output[str], drifted: str) -> pulumi.Output[str]:
        # Once the drift is proven, `drifted` is empty again; that is no change.
        ignored = [] if drifted else ["keepers.touched"]
        return declare_attempt(
            name,
            {
                "request": request.apply(short_hash),
                "program": program_hash(),
                "touched": drifted,
            },
            pulumi.ResourceOptions(parent=self, ignore_changes=ignored),
        )


def probe_request(args: HealthProbeArgs) -> dict[str, Any]:
    """Return the request that the program in `health/` reads; sizes in bytes."""
    settings, cluster = args.settings, args.cluster
    environment, store = cluster.environment, settings.object_store
    return {
        "deadline_seconds": settings.health.deadline,
        # The notebook's image, so that the probe has the notebook's versions.
        "image": args.site.notebook_image,
        "constraints": list(settings.shared.control_placement),
        "platforms": list(settings.cluster.platforms),
        "scheduler_address": cluster.scheduler_address,
        "network_id": cluster.network.id,
        # The probe is a client as the notebook is: it must reach the same servers.
        "other_network_ids": list(args.site.other_network_ids),
        "network_name": network_name(settings.cluster.name),
        "caddy_network_id": args.ingress.network_id,
        "services": {
            service.name: service.declared_hash
            for service in (*cluster.services, *args.ingress.services)
        },
        # The probe's client is not on their network.
        "healthy": [service.name for service in args.ingress.services],
        "notebook": {
            "url": f"http://{_notebook_host(args)}:{notebook.PORT}",
            "kind": cluster.notebook.login_kind,
            "secret_id": cluster.notebook.secret.id,
            "secret_name": cluster.notebook.secret.name,
            # The ingress proof runs a cell too, through Caddy, if it can log in.
            "cell": settings.health.proof == "full" and not settings.proof_logs_in,
        },
        "prefect": {
            "api_url": cluster.prefect_api_url,
            "managed": settings.prefect.mode == "managed",
            "secret_id": environment.id,
            "secret_name": environment.name,
        }
        if environment and cluster.prefect_api_url
        else None,
        **_certificate(cluster),
        "expected": {
            "workers": settings.workers.count,
            "threads": settings.workers.count * settings.workers.threads,
            "memory_bytes": settings.workers.count * settings.workers.memory,
            "workers_per_node": settings.workers.per_node,
        },
        "packages": list(settings.cluster.packages),
        "closed_ports": _closed_ports(args),
        "closed_urls": _closed_urls(args),
        "use": settings.health.proof == "full",
        "object_store": {"bucket": store.bucket, "endpoint": store.endpoint}
        if store and store.bucket
        else None,
    }


def _notebook_host(args: HealthProbeArgs) -> str:
    """Return the notebook's name on the network where its port is."""
    cluster, caddy_network = args.settings.cluster.name, args.settings.caddy.network
    network = caddy_network if args.ingress.network_id else network_name(cluster)
    return f"{service_name(cluster, 'notebook')}.{network}"


def _closed_ports(args: HealthProbeArgs) -> list[str]:
    """Return the ports that Caddy's network must not reach, and the port that tasks must not."""
    if args.ingress.network_id is None:
        return []
    cluster, caddy_network = args.settings.cluster.name, args.settings.caddy.network
    return [
        f"{service_name(cluster, 'scheduler')}.{caddy_network}:{scheduler.COMM_PORT}",
        f"{service_name(cluster, 'notebook')}.{network_name(cluster)}:{notebook.PORT}",
    ]


def _closed_urls(args: HealthProbeArgs) -> list[str]:
    """Return the URLs of Prefect's page and API on Caddy's network, which only Caddy may use."""
    settings = args.settings
    if args.ingress.network_id is None or settings.prefect.mode != "managed":
        return []
    service = f"{service_name(settings.cluster.name, 'prefect')}.{settings.caddy.network}"
    return [f"{prefect.prefect_url(service)}{path}" for path in ("/", "/api/admin/version")]


def _certificate(cluster: DaskCluster) -> dict[str, Any]:
    """Return the parts of the request by which the probe is a client with a certificate."""
    certificates = cluster.certificates
    client = identity_of(certificates, "client")
    foreign = certificates.foreign if certificates else None
    return {
        "secrets": [_file(secret) for secret in (*client.secrets, *cluster.pip_config)],
        "configs": [_file(config) for config in client.configs],
        "tls": {
            "dask_config": client.dask_config,
            "secret_id": foreign.id,
            "secret_name": foreign.name,
        }
        if foreign
        else None,
    }


def _file(mounted: MountedFile) -> dict[str, Any]:
    return {"id": mounted.id, "name": mounted.name, "file": mounted.file_name}


def program_hash() -> str:
    """Return a hash of the launcher's and the probe's source, the same on every machine."""
    sources = [source for folder in PROGRAM for source in sorted((PROJECT / folder).rglob("*.py"))]
    return short_hash("".join(source.read_text(encoding="utf-8") for source in sources))
