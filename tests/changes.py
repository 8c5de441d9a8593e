"""What a change of the config restarts: the data of the tests and of docs/changes.md.

`python -m tests.docs` writes the table.
"""

from dataclasses import dataclass, field

CONTINUES = "Continues"
HANDED_ON = "Continues: a worker that stops first hands on its data and tasks"
KERNELS_END = "kernels stop, and with them what they compute"
HANDED_ON_BUT_KERNELS = f"{HANDED_ON}; {KERNELS_END}"
LOST = "Lost: the new scheduler has no state, clients must submit again"
REPLACED = f"{LOST}; the sites are unavailable meanwhile"
KERNELS_STOP = "Stops with its kernel; files stay"
SCHEDULER, WORKER, NOTEBOOK = "dask_scheduler", "dask_worker", "dask_notebook"
CADDY = "dask_caddy"
PREFECT = "dask_prefect"
MANAGED_CADDY = {"caddyMode": "managed", "domain": "localhost", "auth": "none"}
EXISTING_CADDY = {"caddyMode": "external"}
REBUILT, NEWER = "rebuilt", "newer"  # the tests replace these by images


@dataclass(frozen=True, kw_only=True)
class Change:
    """One row: a change by some keys, the services that restart, the effect on computations.

    The tests set `tried`, one row after the other on the same deployment; with `rehearsed` they do
    so without a Pulumi engine too. A row that needs another deployment, `base`, is tested under
    mocks, and by the ingress's tests for real.
    """

    what: str
    keys: tuple[str, ...]
    restarts: tuple[str, ...]
    effect: str
    tried: dict = field(default_factory=dict)
    base: dict = field(default_factory=dict)
    rehearsed: bool = False

    @property
    def cells(self):
        """Return the row of the table."""
        keys = ", ".join(f"`{key}`" for key in self.keys) or "none"
        restarts = ", ".join(f"`{name}`" for name in self.restarts) or "none"
        return self.what, keys, restarts, self.effect


CHANGES = [
    Change(
        what="More workers",
        keys=("workers",),
        restarts=(),
        effect=f"{CONTINUES}, and uses the new workers too",
        tried={"workers": 3},
        rehearsed=True,
    ),
    Change(
        what="Fewer workers",
        keys=("workers",),
        restarts=(),
        effect=HANDED_ON,
        tried={"workers": 2},
        rehearsed=True,
    ),
    Change(
        what="CPUs, memory or threads of a worker",
        keys=(
            *("workerMemory", "workerCpus", "workerThreads"),
            *("workerReservedMemory", "workerReservedCpus"),
        ),
        restarts=(WORKER,),
        effect=HANDED_ON,
        tried={"workerMemory": "896MiB"},
    ),
    Change(
        what="Packages of all services, or how pip gets them",
        keys=("extraPipPackages", "pipConfig"),
        restarts=(SCHEDULER, WORKER, NOTEBOOK),
        effect=LOST,
        tried={"extraPipPackages": ["prefect", "s3fs"]},
    ),
    Change(
        what="Placement, or a node's label, if the nodes of the tasks still match",
        keys=("workersPerNode", "workerPlacement", "controlPlacement"),
        restarts=(),
        effect=CONTINUES,
        tried={"workersPerNode": 3, "workerPlacement": "node.labels.role!=master"},
    ),
    Change(
        what="Platforms that the images already have, if the nodes of the tasks still match",
        keys=("platform",),
        restarts=(),
        effect=CONTINUES,
        tried={"platform": "linux/amd64,linux/arm64"},
        base={"platform": "linux/amd64"},
    ),
    Change(
        what="CPUs or memory of the scheduler",
        keys=("schedulerMemory", "schedulerCpus"),
        restarts=(SCHEDULER,),
        effect=LOST,
        tried={"schedulerMemory": "1536MiB"},
    ),
    Change(
        what="CPUs or memory of the notebook",
        keys=("notebookMemory", "notebookCpus"),
        restarts=(NOTEBOOK,),
        effect=KERNELS_STOP,
        tried={"notebookMemory": "1536MiB"},
    ),
    Change(
        what="Password of the notebook",
        keys=("notebookPassword",),
        restarts=(NOTEBOOK,),
        effect=KERNELS_STOP,
        tried={"notebookPassword": "correct-horse-battery"},
    ),
    Change(
        what="Environment variables, or the bucket that the proof uses",
        keys=("environment", "s3Bucket"),
        restarts=(WORKER, NOTEBOOK),
        effect=HANDED_ON_BUT_KERNELS,
        tried={"environment": {"GREETING": "hello"}},
    ),
    Change(
        what="Keys of the object store",
        keys=("s3AccessKey", "s3SecretKey"),
        restarts=(WORKER, NOTEBOOK),
        effect=HANDED_ON_BUT_KERNELS,
        tried={"s3AccessKey": "AKIAOTHER", "s3SecretKey": "bPxRfiCYEXAMPLE"},
        base={"s3AccessKey": "AKIAEXAMPLE", "s3SecretKey": "wJalrXUtnFEMI"},
    ),
    Change(
        what="Another object store, or none",
        keys=("s3Endpoint", "s3Region", "s3PathStyle", "s3CaBundle"),
        restarts=(SCHEDULER, WORKER, NOTEBOOK),
        effect=LOST,
        tried={"s3AccessKey": "AKIAEXAMPLE", "s3SecretKey": "wJalrXUtnFEMI"},
    ),
    Change(
        what="Dask's configuration",
        keys=("daskConfig",),
        restarts=(SCHEDULER, WORKER, NOTEBOOK),
        effect=LOST,
        tried={"daskConfig": {"array": {"chunk-size": "64MiB"}}},
    ),
    Change(
        what="Next CA, for workers and clients",
        keys=("tlsCa",),
        restarts=(WORKER, NOTEBOOK),
        effect=HANDED_ON_BUT_KERNELS,
        tried={"tlsCa": 2},
        rehearsed=True,
    ),
    Change(
        what="Next CA, for the scheduler too",
        keys=("tlsSchedulerCa",),
        restarts=(SCHEDULER, WORKER, NOTEBOOK),
        effect=LOST,
        tried={"tlsCa": 2, "tlsSchedulerCa": 2},
        rehearsed=True,
    ),
    Change(
        what="Encryption on or off",
        keys=("tls",),
        restarts=(SCHEDULER, WORKER, NOTEBOOK),
        effect=LOST,
        tried={"tls": False},
        rehearsed=True,
    ),
    Change(
        what="Range, MTU or encryption of the network",
        keys=("networkSubnet", "networkMtu", "networkEncrypted"),
        restarts=(SCHEDULER, WORKER, NOTEBOOK),
        effect=f"{LOST}; an outage",
        tried={"networkMtu": 1400},
    ),
    Change(
        what="Other networks",
        keys=("networks",),
        restarts=(WORKER, NOTEBOOK),
        effect="Continues: results that only the workers had are computed again, scattered data is"
        f" lost; {KERNELS_END}",
        tried={"networks": ["other-network"]},
        base={"networks": ["one-network"]},
    ),
    Change(
        what="Address of the Prefect server",
        keys=("prefect", "prefectApiUrl"),
        restarts=(WORKER, NOTEBOOK),
        effect=HANDED_ON_BUT_KERNELS,
        tried={"prefectApiUrl": "http://other.example.org/api"},
        base={"prefect": "external", "prefectApiUrl": "http://one.example.org/api"},
    ),
    Change(
        what="CPUs or memory of the Prefect server",
        keys=("prefectMemory", "prefectCpus"),
        restarts=(PREFECT,),
        effect=f"{CONTINUES}; the server is unavailable for a moment",
        tried={"prefectMemory": "2GiB"},
        base={"prefect": "managed"},
    ),
    Change(
        what="Image of scheduler, workers and a managed Prefect server",
        keys=("image",),
        restarts=(SCHEDULER, WORKER),
        effect=LOST,
        tried={"image": REBUILT},
    ),
    Change(
        what="Image of the notebook",
        keys=("notebookImage",),
        restarts=(NOTEBOOK,),
        effect=KERNELS_STOP,
        tried={"notebookImage": REBUILT},
    ),
    Change(
        what="Dask's version, in both images",
        keys=("image", "notebookImage"),
        restarts=(SCHEDULER, WORKER, NOTEBOOK),
        effect=f"{LOST}; images with different versions are refused before",
        tried={"image": NEWER, "notebookImage": NEWER},
    ),
    Change(
        what="Names of the sites, or the login",
        keys=("domain", "notebookName", "dashboardName", "auth", "notebookLogin"),
        restarts=(f"{CADDY}_reloader",),
        effect=CONTINUES,
        tried={"notebookName": "lab"},
        base=MANAGED_CADDY,
    ),
    Change(
        what="Version of a managed Caddy",
        keys=("caddyImage",),
        restarts=(CADDY, f"{CADDY}_reloader"),
        effect=f"{CONTINUES}; the sites are unavailable for a moment",
        tried={"caddyImage": "caddy:2.11.99"},
        base=MANAGED_CADDY,
    ),
    Change(
        what="Network of a managed Caddy",
        keys=("caddyNetwork",),
        restarts=(SCHEDULER, NOTEBOOK, CADDY),
        effect=REPLACED,
        tried={"caddyNetwork": "front-network"},
        base=MANAGED_CADDY,
    ),
    Change(
        what="Network of an existing Caddy",
        keys=("caddyNetwork",),
        restarts=(SCHEDULER, NOTEBOOK),
        effect=REPLACED,
        tried={"caddyNetwork": "front-network"},
        base=EXISTING_CADDY,
    ),
    Change(
        what="Another Caddy, or none",
        keys=("caddyMode",),
        restarts=(SCHEDULER, NOTEBOOK),
        effect=REPLACED,
        tried={"caddyMode": "none"},
        base=EXISTING_CADDY,
    ),
    Change(
        what="Domain of an existing Caddy, added or removed",
        keys=("domain",),
        restarts=(NOTEBOOK,),
        effect=KERNELS_STOP,
        tried={"domain": "localhost", "auth": "basic"},
        base=EXISTING_CADDY,
    ),
    Change(
        what="Deadline of the proof",
        keys=("healthDeadline",),
        restarts=(),
        effect=CONTINUES,
        tried={"healthDeadline": 120},
    ),
]

HEADER = ("Change", "Config keys", "Restarted services", "Effect on a running computation")


def table():
    """Return the table of docs/changes.md."""
    rows = [HEADER, ("---",) * len(HEADER), *(change.cells for change in CHANGES)]
    return "\n".join(f"| {' | '.join(row)} |".replace("| --- ", "|---") for row in rows)
