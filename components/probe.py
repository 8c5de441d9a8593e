"""The health probe as a resource: a deployment is done only when the cluster has proven itself.

Owns when the probe runs: beside the services instead of after them (it waits by itself), once for
each change of anything that it depends on, by hand too, and again after every attempt that failed.
What it proves is the program in `health/`, which knows nothing of Pulumi.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import pulumi_command as command
import pulumi_docker as docker
import pulumi_random as random

from components.cluster import DaskCluster
from components.ingress import Front
from components.service import fingerprint
from config.settings import Settings
from swarm import drift
from swarm.proof_record import PROOF_RECORD
from swarm.site import Site

PROJECT = Path(__file__).parent.parent
PROGRAM = ("health", "swarm")  # the folders that the launcher imports
# Pulumi.yaml names the virtual environment; `exec` lets a cancelled run end the program itself.
COMMAND = "exec .venv/bin/python -m health"


@dataclass(frozen=True, kw_only=True)
class HealthProbeArgs:
    """The front and the cluster to prove, and what they were declared from."""

    settings: Settings
    site: Site
    front: Front
    cluster: DaskCluster


class HealthProbe(pulumi.ComponentResource):
    """A one-shot client on the overlay; `health` is what it proved, in the attempt `attempt`."""

    health: pulumi.Output[dict[str, Any]]
    attempt: pulumi.Output[str]

    def __init__(
        self, name: str, args: HealthProbeArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("dask:swarm:HealthProbe", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        request = pulumi.Output.json_dumps(probe_request(args), sort_keys=True)
        self.attempt = self._attempt(f"{name}-attempt", request, args.site.touched)
        run = command.local.Command(
            f"{name}-run",
            create=COMMAND,
            environment={"DOCKER_HOST": args.settings.docker_host},
            stdin=request,
            triggers=[self.attempt],
            logging=command.local.Logging.STDERR,
            add_previous_output_in_env=False,
            opts=child,
        )
        proof = run.stdout.apply(json.loads)
        note = pulumi.Output.all(proof, self.attempt).apply(lambda both: drift.note(*both))
        docker.ServiceConfig(PROOF_RECORD, data=note, opts=child)
        self.health = proof.apply(drift.without_imprints)
        self.register_outputs({"health": self.health})

    def _attempt(self, name: str, request: pulumi.Output[str], touched: str) -> pulumi.Output[str]:
        # A failed probe leaves its old state behind, so going back to the last good config would
        # not prove anything. The attempt changes with the request even when the probe then fails.
        return random.RandomId(
            name,
            byte_length=8,
            keepers={
                "request": request.apply(fingerprint),
                "program": program_fingerprint(),
                "touched": touched,
            },
            opts=pulumi.ResourceOptions(
                parent=self,
                # What was touched and is proven again stays there: it is no change to forget it.
                ignore_changes=[] if touched else ["keepers.touched"],
            ),
        ).hex


def probe_request(args: HealthProbeArgs) -> dict[str, Any]:
    """Return what the program in `health/` reads on its standard input; sizes in bytes."""
    settings, cluster = args.settings, args.cluster
    environment = cluster.environment
    return {
        "deadline_seconds": settings.health_deadline,
        # The notebook's own image, so that the probe's versions are the notebook's.
        "image": args.site.notebook_image,
        "constraints": list(settings.control_placement),
        "scheduler_address": cluster.scheduler_address,
        "network_id": cluster.network_id,
        "services": {
            service.name: service.revision for service in (*cluster.services, *args.front.services)
        },
        # On another network than the probe's client.
        "healthy": [service.name for service in args.front.services],
        "notebook": {
            "url": cluster.notebook.url,
            "kind": cluster.notebook.login_kind,
            "secret_id": cluster.notebook.secret.id,
            "secret_name": cluster.notebook.secret.name,
            # Where there is a front, a cell is run through it.
            "cell": settings.proof == "full" and not settings.enters_front,
        },
        "prefect": {
            "api_url": cluster.prefect_api_url,
            "managed": settings.prefect == "managed",
            "secret_id": environment.id,
            "secret_name": environment.name,
        }
        if environment and cluster.prefect_api_url
        else None,
        "expected": {
            "workers": settings.workers,
            "threads": settings.workers * settings.worker_threads,
            "memory_bytes": settings.workers * settings.worker_memory,
            "workers_per_node": settings.workers_per_node,
        },
        "packages": list(settings.extra_pip_packages),
        "use": settings.proof == "full",
        "object_store": {"bucket": settings.s3_bucket, "endpoint": settings.s3_endpoint}
        if settings.s3_bucket
        else None,
    }


def program_fingerprint() -> str:
    """Return a fingerprint of the launcher's and the probe's source, the same on every machine."""
    sources = [source for room in PROGRAM for source in sorted((PROJECT / room).rglob("*.py"))]
    return fingerprint("".join(source.read_text(encoding="utf-8") for source in sources))
