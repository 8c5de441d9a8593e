"""The probe: a program that runs in a container, as a client on the cluster's network.

    proof.py         the steps of the proof
    messages.py      its request and its messages; deadline.py ends its waits
    members.py       the workers and their size; versions.py their versions and packages
    worker_tasks.py  a task on every worker; transfers.py data from host to host
    exchange.py      an array and a frame, sent to every worker and back
    tls.py           which certificates scheduler and workers admit
    ports.py         which ports accept connections and which refuse them
    bucket.py        an object in a bucket, if there is one
    tasks.py         runs a function on one worker
    busy.py          workers that run tasks of users, and why a task has no result
    notebook.py      the notebook's login; session.py a logged-in user; kernel.py a cell
    flow.py          a Prefect flow, if there is a server

Before an upgrade two other programs run in the same way:

    installed.py     the versions that are installed in an image
    idle.py          waits until the scheduler has no task

`bundle.py` passes it as arguments to the Python of the notebook's image, 3.10 or newer. So it uses
only the standard library, distributed and websocket-client. It imports its own modules at once,
by relative imports, and distributed late.
"""


class UnprovenError(Exception):
    """The cluster is not as expected; the message has the expected and the actual state."""
