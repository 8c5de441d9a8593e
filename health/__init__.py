"""The health probe: proves from inside the Swarm that a deployed Dask cluster works.

    launch.py       the program that a deployment runs: request in, proof or report out
    request.py      what it is asked; job.py the one-shot service that it runs the probe in
    probe/          the probe itself, a client on the cluster's network; parcel.py its way there
    watch.py        the wait for both; rollout.py, spread.py judge what the Swarm says meanwhile
    diagnose.py     the report when something is wrong, with causes.py and nodes.py
    retreat.py      the way back from an update that is not proven; proven.py what was so before
    front.py        the proof from outside: nobody gets past Caddy without a login
    shutdown.py     ends all tasks before a stack is taken down
    guardian.py     what removes the service when the launcher is killed

It imports nothing of Pulumi, and the probe nothing but distributed.
"""
