"""The proof of the front as a resource: who has no login stays outside, who has one gets in.

Owns when it runs, after the cluster's own proof and once for each change of what it depends on,
and the one path of its credentials: standard input, marked as a secret. What it proves is the
program in `health/ingress.py`, which prints nothing secret; its result joins the cluster's.
"""

import json
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_command as command
import pulumi_random as random

from components.cluster import DaskCluster
from components.ingress import Front, front_text
from components.probe import HealthProbe, program_fingerprint
from components.service import fingerprint
from config.settings import Settings
from swarm.site import Site

COMMAND = "exec .venv/bin/python -m health.ingress"


@dataclass(frozen=True, kw_only=True)
class FrontProofArgs:
    """The front to prove, what it was declared from, and what stands behind it."""

    settings: Settings
    site: Site
    front: Front
    cluster: DaskCluster
    probe: HealthProbe


class FrontProof(pulumi.ComponentResource):
    """A visitor from outside; `health` is what was proven of cluster and front."""

    health: pulumi.Output[dict[str, Any]]

    def __init__(
        self, name: str, args: FrontProofArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("dask:swarm:FrontProof", name, None, opts)
        self.health = args.probe.health
        if args.settings.proves_ingress:
            found = _visit(name, args, self).apply(json.loads)
            self.health = pulumi.Output.all(args.probe.health, found).apply(
                lambda both: {**both[0], "front": both[1]}
            )
        self.register_outputs({"health": self.health})


def _visit(name: str, args: FrontProofArgs, parent: pulumi.Resource) -> pulumi.Output[str]:
    spelled: pulumi.Output[str] = pulumi.Output.json_dumps(front_request(args), sort_keys=True)
    request: pulumi.Output[str] = pulumi.Output.secret(spelled)
    # As for the probe: an attempt that failed must not count when its config comes back.
    attempt = random.RandomId(
        f"{name}-attempt",
        byte_length=8,
        keepers={
            "request": request.apply(fingerprint),
            "caddyfile": pulumi.Output.from_input(args.front.caddyfile).apply(fingerprint),
            "program": program_fingerprint(),
            "probe": args.probe.attempt,
        },
        opts=pulumi.ResourceOptions(parent=parent),
    )
    run = command.local.Command(
        f"{name}-run",
        create=COMMAND,
        stdin=request,
        triggers=[attempt.hex],
        logging=command.local.Logging.STDERR,
        add_previous_output_in_env=False,
        opts=pulumi.ResourceOptions(parent=parent, depends_on=[args.probe, args.front]),
    )
    # A secret input makes the whole output one; this one never says what it was told.
    return pulumi.Output.unsecret(run.stdout)


def front_request(args: FrontProofArgs) -> dict[str, Any]:
    """Return what the program in `health/ingress.py` reads; it holds the credentials."""
    settings, text = args.settings, front_text(args.settings)
    logins: dict[str, tuple[str, pulumi.Input[str]]] = {
        "authelia": (settings.authelia_user, settings.authelia_password),
        "basic": (args.front.user, args.front.password),
        "none": ("", ""),
    }
    user, password = logins[settings.auth]
    asks, notebook = settings.notebook_asks, args.cluster.notebook
    return {
        "deadline_seconds": settings.health_deadline,
        "workers": settings.workers if settings.proof == "full" else 0,
        "names": {
            "notebook": text.notebook_name,
            "dashboard": text.dashboard_name,
            **({"prefect": text.prefect_name} if text.prefect_name else {}),
        },
        "addresses": list(args.site.ingress_addresses),
        "verified": not settings.is_local,
        "auth": settings.auth,
        "portal": settings.authelia_portal,
        "user": user,
        "password": password,
        # Where the front key is to open it, nothing else is tried.
        "notebook_token": (asks and notebook.token) or "",
        "notebook_password": settings.notebook_password if asks else "",
    }
