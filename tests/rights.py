"""What the containers of each service may do, for tests of specs and of running containers."""

CADDY = ("dask_caddy", "dask_caddy_reloader")
# The directories that a container can write to.
WRITABLE = {
    "dask_scheduler": {"/tmp", "/home/dask"},
    "dask_worker": {"/tmp", "/home/dask"},
    "dask_notebook": {"/tmp", "/home/jovyan"},
    "dask_prefect": {"/tmp", "/home/dask", "/var/tmp"},
    "dask_caddy": {"/tmp", "/var/tmp"},
    "dask_caddy_reloader": {"/tmp", "/var/tmp"},
}
