"""A Dask cluster on Docker Swarm.

    settings       every config key of the stack, checked          config/settings.py
    site           image digests and networks that the Swarm has   swarm/offline.py
    ingress        Caddy, its network and the names that it serves components/ingress.py
    cluster        network, scheduler, workers, notebook, Prefect  components/cluster.py
    health probe   a client on the network that proves all of it   components/probe.py
    ingress proof  a client from outside, with and without login   components/ingress_proof.py
    shutdown       ends tasks before a destroy removes anything    components/shutdown.py

The deployment is finished when both proofs are.
"""

import pulumi
import pulumi_docker as docker

from components.cluster import DaskCluster, DaskClusterArgs
from components.ingress import Front, FrontArgs
from components.ingress_proof import FrontProof, FrontProofArgs
from components.probe import HealthProbe, HealthProbeArgs
from components.shutdown import Shutdown, ShutdownArgs
from config.settings import Settings
from swarm.client import ssh_options
from swarm.offline import find_site, provider_host

settings = Settings.load()
site = find_site(settings)

host, ssh_opts = provider_host(settings), ssh_options(settings.docker_host)
swarm = pulumi.ResourceOptions(providers=[docker.Provider("swarm", host=host, ssh_opts=ssh_opts)])

front = Front("front", FrontArgs(settings=settings, site=site), swarm)
cluster_args = DaskClusterArgs(
    settings=settings, site=site, caddy_network_id=front.network_id, front_key=front.key
)
cluster = DaskCluster("dask", cluster_args, swarm)
probe_args = HealthProbeArgs(settings=settings, site=site, front=front, cluster=cluster)
probe = HealthProbe("dask-health", probe_args, swarm)
proof_args = FrontProofArgs(
    settings=settings, site=site, front=front, cluster=cluster, probe=probe
)
proof = FrontProof("front-proof", proof_args)
Shutdown("dask-shutdown", ShutdownArgs(settings=settings, front=front, cluster=cluster))

pulumi.export("scheduler_address", cluster.scheduler_address)
pulumi.export("dashboard_url", front.dashboard_url)
pulumi.export("notebook_url", front.notebook_url)
pulumi.export("prefect_url", front.prefect_url)
pulumi.export("notebook_token", cluster.notebook.token)
pulumi.export("login_user", front.user)
pulumi.export("login_password", front.password)
pulumi.export("caddyfile", front.caddyfile)
pulumi.export("health", proof.health)
