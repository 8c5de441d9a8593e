"""A Dask cluster on Docker Swarm.

    settings       every config key of the stack, checked          config/settings.py
    site           image digests and networks of the Swarm         swarm/offline.py
    provider       the manager's engine, the registries' logins   components/provider.py
    upgrade check  tries other images before services get them     components/upgrade.py
    ingress        Caddy, its network and the names of the sites   components/ingress.py
    cluster        network, scheduler, workers, notebook, Prefect  components/cluster.py
    health probe   a client on the network proves the cluster      components/probe.py
    ingress proof  a client from outside proves sites and login    components/ingress_proof.py
    shutdown       ends all tasks at the start of a destroy        components/shutdown.py

The deployment is finished when both proofs have succeeded.
"""

import pulumi

from components.cluster import DaskCluster, DaskClusterArgs
from components.ingress import Ingress, IngressArgs
from components.ingress_proof import IngressProof, IngressProofArgs
from components.probe import HealthProbe, HealthProbeArgs
from components.provider import declare_provider
from components.shutdown import Shutdown, ShutdownArgs
from components.upgrade import UpgradeCheck, UpgradeCheckArgs
from config.names import prefixed
from config.settings import Settings
from swarm.offline import find_site

settings = Settings.load()
site = find_site(settings)
name = settings.cluster.name
upgrade = UpgradeCheck(f"{name}-upgrade", UpgradeCheckArgs(settings=settings, site=site))
provider = declare_provider("swarm", settings, site)
swarm = pulumi.ResourceOptions(providers=[provider], depends_on=upgrade.first)

ingress = Ingress(prefixed(name, "front"), IngressArgs(settings=settings, site=site), swarm)
cluster_args = DaskClusterArgs(settings=settings, site=site, ingress=ingress)
cluster = DaskCluster(name, cluster_args, swarm)
probe_args = HealthProbeArgs(settings=settings, site=site, ingress=ingress, cluster=cluster)
probe = HealthProbe(f"{name}-health", probe_args, swarm)
proof_args = IngressProofArgs(
    settings=settings, site=site, ingress=ingress, cluster=cluster, probe=probe
)
proof = IngressProof(prefixed(name, "front-proof"), proof_args)
Shutdown(f"{name}-shutdown", ShutdownArgs(settings=settings, ingress=ingress, cluster=cluster))

pulumi.export("scheduler_address", cluster.scheduler_address)
pulumi.export("client_config", cluster.client_config)
pulumi.export("dashboard_url", ingress.urls["dashboard"])
pulumi.export("notebook_url", ingress.urls["notebook"])
pulumi.export("prefect_url", ingress.urls.get("prefect"))
pulumi.export("notebook_token", cluster.notebook.token)
pulumi.export("login_user", ingress.user)
pulumi.export("login_password", ingress.password)
pulumi.export("caddyfile", ingress.caddyfile)
pulumi.export("health", proof.health)
