"""Ask a Swarm manager, and judge its answers. No Dask here, and no resource is declared.

    client.py       a client of the manager's Docker engine, also behind `ssh://` (ssh.py)
    manager.py      the manager's API as plain dicts; nodes.py, snapshot.py, causes.py judge them
    preflight.py    what must be true before a deployment; capacity.py counts the room on the nodes
    site.py         what the program looks up; offline.py, site_lock.py keep it for offline use
    registry.py     which registries need a login, and this machine's logins for them
    proof_record.py the config that a proof leaves on the Swarm; drift.py compares services with it
    shutdown.py     ends all tasks before a stack is taken down

It imports nothing but config/.
"""


class UnfitError(Exception):
    """The cluster is not as it should be; the message says what was expected and found."""
