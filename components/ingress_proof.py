"""The ingress proof as a resource: the login keeps strangers out and lets its users in.

Owns when the proof runs (after the health probe, and again after a change of anything that it
depends on), and the one path of its credentials: standard input, marked as a secret. The program
in `health/ingress.py` owns what it proves, and prints no secret.
"""

import json
from dataclasses import dataclass
from typing import Any

import pulumi

from components.cluster import DaskCluster
from components.ingress import Ingress, site_names
from components.probe import HealthProbe, program_hash
from components.program import declare_attempt, declare_program
from components.service import short_hash
from config.settings import IngressSettings, Settings
from swarm.site import Site


@dataclass(frozen=True, kw_only=True)
class IngressProofArgs:
    """The ingress to prove, what it was declared from, and the cluster behind it."""

    settings: Settings
    site: Site
    ingress: Ingress
    cluster: DaskCluster
    probe: HealthProbe


class IngressProof(pulumi.ComponentResource):
    """A client from outside; `health` is what was proven of cluster and ingress."""

    health: pulumi.Output[dict[str, Any]]

    def __init__(
        self, name: str, args: IngressProofArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("dask:swarm:FrontProof", name, None, opts)
        self.health = args.probe.health
        ingress = args.settings.ingress
        if ingress and args.settings.proves_ingress:
            proof = _declare_proof(name, args, ingress, self).apply(json.loads)
            self.health = pulumi.Output.all(args.probe.health, proof).apply(
                lambda both: {**both[0], "front": both[1]}
            )
        self.register_outputs({"health": self.health})


def _declare_proof(
    name: str, args: IngressProofArgs, ingress: IngressSettings, parent: pulumi.Resource
) -> pulumi.Output[str]:
    text: pulumi.Output[str] = pulumi.Output.json_dumps(
        ingress_request(args, ingress), sort_keys=True
    )
    request: pulumi.Output[str] = pulumi.Output.secret(text)
    attempt = declare_attempt(
        f"{name}-attempt",
        {
            "request": request.apply(short_hash),
            "caddyfile": pulumi.Output.from_input(args.ingress.caddyfile).apply(short_hash),
            "program": program_hash(),
            "probe": args.probe.attempt,
        },
        pulumi.ResourceOptions(parent=parent),
    )
    run = declare_program(
        f"{name}-run",
        "health.ingress",
        request,
        on={"create": ""},
        triggers=[attempt],
        opts=pulumi.ResourceOptions(parent=parent, depends_on=[args.probe, args.ingress]),
    )
    # A secret input makes the output secret; this output never repeats its input.
    return pulumi.Output.unsecret(run.stdout)


def ingress_request(args: IngressProofArgs, ingress: IngressSettings) -> dict[str, Any]:
    """Return the request that the program in `health/ingress.py` reads, credentials included."""
    settings = args.settings
    logins: dict[str, tuple[str, pulumi.Input[str]]] = {
        "authelia": (ingress.authelia_user, ingress.authelia_password),
        "basic": (args.ingress.user, args.ingress.password),
        "none": ("", ""),
    }
    user, password = logins[ingress.auth]
    asks, notebook = settings.notebook_asks, args.cluster.notebook
    return {
        "deadline_seconds": settings.health.deadline,
        # Not `settings.workers.count`: workers may be missing while their node is down.
        "workers": args.probe.health["workers"] if settings.health.proof == "full" else 0,
        "names": site_names(settings),
        "addresses": list(args.site.ingress_addresses),
        "verified": not ingress.is_local,
        "auth": ingress.auth,
        "portal": ingress.authelia_portal,
        "user": user,
        "password": password,
        # With the ingress key, Jupyter must not ask for anything else.
        "notebook_token": (asks and notebook.token) or "",
        "notebook_password": settings.notebook.password if asks else "",
    }
