"""The settings of a stack, read and checked before anything changes.

    settings.py      every config key: how it is parsed, and an example
    types.py         parsers of config values; cross_checks.py checks settings together
    workloads.py     the stack's services: names, replicas, constraints, reservations, limits
    problems.py      what is wrong with a config, and the error that lists it

It asks no Swarm and declares no resource.
"""
