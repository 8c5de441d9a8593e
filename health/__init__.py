"""The health probe: proves from inside the Swarm that a deployed Dask cluster works.

    launch.py       the program that a deployment runs: request in, proof or report out
    request.py      what it is asked; job.py the one-shot service that runs the probe
    probe/          the probe itself, a client on the cluster's network; bundle.py gets it there
    watch.py        waits for both; log_reader.py, placement.py read what the Swarm says meanwhile
    diagnose.py     the report when something is wrong, from evidence.py
    rollback.py     undoes an update that is not proven
    ingress.py      the proof from outside: nobody gets past Caddy without a login
    reaper.py       removes the service when the launcher is killed

It imports nothing of Pulumi, and the probe nothing but distributed.
"""
