"""The health probe: proves from inside the Swarm that a deployed Dask cluster works.

    launch.py       the program that a deployment runs: a request in, a proof or report out
    request.py      its request; timing.py its times; reaper.py cleans up if it is killed
    watch.py        waits for the services and the probe; rollback.py undoes a failed update
    job.py          the probe's one-shot service; log_reader.py its messages
    probe/          the probe's program, a client on the cluster's network; bundle.py packs it
    placement.py    the nodes of the workers
    diagnose.py     the report about a failure, from evidence.py
    ingress.py      the proof from outside: no one passes Caddy without a login; it uses
                    http_client.py and jupyterlab.py

It imports nothing of Pulumi.
"""
