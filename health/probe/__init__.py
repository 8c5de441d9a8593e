"""The probe itself: a program that a container runs as a client on the cluster's own network.

    proof.py        what is proven, one after the other
    messages.py     what it is asked and what it answers; deadline.py how long it waits
    members.py      the workers and their size; versions.py theirs and their packages'
    worker_tasks.py a task on every worker; transfers.py data from host to host
    exchange.py     an array and a frame there and back
    bucket.py       an object in a bucket, where there is one to be proven
    tasks.py        how workers are made to do any of it
    notebook.py     whom the notebook lets in; session.py somebody who is logged in there
    kernel.py       a cell that it runs
    flow.py         a flow of Prefect's, where there is a server for it

It travels as arguments of a Python (`parcel.py`), the notebook image's, 3.10 or newer. So it needs
nothing but the standard library and distributed, imports all of its own parts at once, relative to
wherever it lies, and distributed late.
"""


class UnprovenError(Exception):
    """The cluster is not what it should be; the message says what was expected and found."""
