"""What each change of a deployment restarts, as data for the tests and docs/changes.md.

`python -m tests.docs` writes the table.
"""

from dataclasses import dataclass, field

GOES_ON = "It goes on"
HANDED_ON = "It goes on: a worker that ends first hands on its data and tasks"
BREAKS_OFF = "It is lost: the new scheduler knows nothing of it, clients begin anew"
KERNELS_END = "It ends with the kernel that runs it; files stay"
SCHEDULER, WORKER, NOTEBOOK = "dask_scheduler", "dask_worker", "dask_notebook"
CADDY = "dask_caddy"
PREFECT = "dask_prefect"
OWN_CADDY = {"caddyMode": "managed", "domain": "localhost", "auth": "none"}
REBUILT, NEWER = "rebuilt", "newer"  # images that the tests stand others in for


@dataclass(frozen=True, kw_only=True)
class Change:
    """One row: what is changed by which keys, whose tasks are replaced, what work notices.

    `tried` is what the tests set, one after the other on the same deployment; with `rehearsed`
    also where there is no Pulumi engine. What takes another deployment to begin with, `base`, is
    tried on paper here, and for real by the tests of the front.
    """

    what: str
    keys: tuple[str, ...]
    restarts: tuple[str, ...]
    notice: str
    tried: dict = field(default_factory=dict)
    base: dict = field(default_factory=dict)
    rehearsed: bool = False

    @property
    def cells(self):
        """Return the row of the table."""
        keys = ", ".join(f"`{key}`" for key in self.keys) or "none"
        restarts = ", ".join(f"`{name}`" for name in self.restarts) or "none"
        return self.what, keys, restarts, self.notice


CHANGES = [
    Change(
        what="More workers",
        keys=("workers",),
        restarts=(),
        notice=f"{GOES_ON}, and uses the new ones too",
        tried={"workers": 3},
        rehearsed=True,
    ),
    Change(
        what="Fewer workers",
        keys=("workers",),
        restarts=(),
        notice=HANDED_ON,
        tried={"workers": 2},
        rehearsed=True,
    ),
    Change(
        what="What a worker may use",
        keys=("workerMemory", "workerCpus", "workerThreads"),
        restarts=(WORKER,),
        notice=HANDED_ON,
        tried={"workerMemory": "896MiB"},
    ),
    Change(
        what="The packages of every service",
        keys=("extraPipPackages",),
        restarts=(SCHEDULER, WORKER, NOTEBOOK),
        notice=BREAKS_OFF,
        tried={"extraPipPackages": ["prefect", "s3fs"]},
    ),
    Change(
        what="Where tasks may run, if their nodes still fit; another label of a node",
        keys=("workersPerNode", "workerPlacement", "controlPlacement"),
        restarts=(),
        notice=GOES_ON,
        tried={"workersPerNode": 3, "workerPlacement": "node.labels.role!=master"},
    ),
    Change(
        what="What the scheduler may use",
        keys=("schedulerMemory", "schedulerCpus"),
        restarts=(SCHEDULER,),
        notice=BREAKS_OFF,
        tried={"schedulerMemory": "1536MiB"},
    ),
    Change(
        what="What the notebook may use",
        keys=("notebookMemory", "notebookCpus"),
        restarts=(NOTEBOOK,),
        notice=KERNELS_END,
        tried={"notebookMemory": "1536MiB"},
    ),
    Change(
        what="The notebook's own password",
        keys=("notebookPassword",),
        restarts=(NOTEBOOK,),
        notice=KERNELS_END,
        tried={"notebookPassword": "correct-horse-battery"},
    ),
    Change(
        what="Variables of work, the bucket of the proof",
        keys=("environment", "s3Bucket"),
        restarts=(WORKER, NOTEBOOK),
        notice=HANDED_ON,
        tried={"environment": {"GREETING": "hello"}},
    ),
    Change(
        what="The keys of the object store",
        keys=("s3AccessKey", "s3SecretKey"),
        restarts=(WORKER, NOTEBOOK),
        notice=HANDED_ON,
        tried={"s3AccessKey": "AKIAOTHER", "s3SecretKey": "bPxRfiCYEXAMPLE"},
        base={"s3AccessKey": "AKIAEXAMPLE", "s3SecretKey": "wJalrXUtnFEMI"},
    ),
    Change(
        what="The object store, or none",
        keys=("s3Endpoint", "s3Region", "s3PathStyle", "s3CaBundle"),
        restarts=(SCHEDULER, WORKER, NOTEBOOK),
        notice=BREAKS_OFF,
        tried={"s3AccessKey": "AKIAEXAMPLE", "s3SecretKey": "wJalrXUtnFEMI"},
    ),
    Change(
        what="Dask's own configuration",
        keys=("daskConfig",),
        restarts=(SCHEDULER, WORKER, NOTEBOOK),
        notice=BREAKS_OFF,
        tried={"daskConfig": {"array": {"chunk-size": "64MiB"}}},
    ),
    Change(
        what="The address of the Prefect server",
        keys=("prefect", "prefectApiUrl"),
        restarts=(WORKER, NOTEBOOK),
        notice=HANDED_ON,
        tried={"prefectApiUrl": "http://other.example.org/api"},
        base={"prefect": "external", "prefectApiUrl": "http://one.example.org/api"},
    ),
    Change(
        what="What the Prefect server may use",
        keys=("prefectMemory", "prefectCpus"),
        restarts=(PREFECT,),
        notice=f"{GOES_ON}; the server is away for a moment",
        tried={"prefectMemory": "2GiB"},
        base={"prefect": "managed"},
    ),
    Change(
        what="The image of scheduler, workers and a managed Prefect server",
        keys=("image",),
        restarts=(SCHEDULER, WORKER),
        notice=BREAKS_OFF,
        tried={"image": REBUILT},
    ),
    Change(
        what="The notebook's image",
        keys=("notebookImage",),
        restarts=(NOTEBOOK,),
        notice=KERNELS_END,
        tried={"notebookImage": REBUILT},
    ),
    Change(
        what="Dask's version, so both images",
        keys=("image", "notebookImage"),
        restarts=(SCHEDULER, WORKER, NOTEBOOK),
        notice=f"{BREAKS_OFF}; a mixture of versions counts as a failure",
        tried={"image": NEWER, "notebookImage": NEWER},
    ),
    Change(
        what="Names and login in front",
        keys=("domain", "notebookName", "dashboardName", "auth", "notebookLogin"),
        restarts=(f"{CADDY}_reloader",),
        notice=GOES_ON,
        tried={"notebookName": "lab"},
        base=OWN_CADDY,
    ),
    Change(
        what="The version of the stack's own Caddy",
        keys=("caddyImage",),
        restarts=(CADDY, f"{CADDY}_reloader"),
        notice=f"{GOES_ON}; its page is away for a moment",
        tried={"caddyImage": "caddy:2.11.99"},
        base=OWN_CADDY,
    ),
    Change(
        what="How long the proof may take",
        keys=("healthDeadline",),
        restarts=(),
        notice=GOES_ON,
        tried={"healthDeadline": 120},
    ),
]

HEADER = ("Change", "Keys", "Tasks that are replaced", "What a computation notices")


def table():
    """Return the table as it stands in docs/changes.md."""
    rows = [HEADER, ("---",) * len(HEADER), *(each.cells for each in CHANGES)]
    return "\n".join(f"| {' | '.join(row)} |".replace("| --- ", "|---") for row in rows)
