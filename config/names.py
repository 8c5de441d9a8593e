"""The names of a cluster on its Swarm and in its domain, derived from `clusterName`.

Inside a cluster its services find each other by aliases, which are the same in every cluster.
"""

DEFAULT_CLUSTER = "dask"


def service_name(cluster: str, role: str) -> str:
    """Return the name of a service, such as `dask_worker`."""
    return f"{cluster}_{role}"


def network_name(cluster: str) -> str:
    """Return the name of the network that only the cluster's services are on."""
    return f"{cluster}-network"


def volume_name(cluster: str, content: str) -> str:
    """Return the name of a volume, such as `dask-notebook`."""
    return f"{cluster}-{content}"


def prefixed(cluster: str, name: str) -> str:
    """Return `name` with the cluster's name in front, and unchanged in the default cluster."""
    return name if cluster == DEFAULT_CLUSTER else f"{cluster}-{name}"
