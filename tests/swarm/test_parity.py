"""The rehearsal declares the same services as the Pulumi engine."""

import json

import pytest

from tests.swarm.conftest import RUNNERS, specs

SHORT_LIVED = {"UpdateStatus", "SecretID", "SecretName", "ConfigID", "ConfigName"}


def without(spec, keys):
    """Return a spec without the keys that always differ, and with sorted lists of blocks."""
    if isinstance(spec, dict):
        return {key: without(value, keys) for key, value in spec.items() if key not in keys}
    if isinstance(spec, list) and all(isinstance(item, dict) for item in spec):
        return sorted((without(item, keys) for item in spec), key=json.dumps)
    return spec


@pytest.mark.skipif(RUNNERS != ["rehearsal", "pulumi"], reason="there is no Pulumi CLI to compare")
def test_both_runners_make_the_same_services(deployed, swarm):
    """`docker service inspect` shows the same after both."""
    by_runner = {}
    for runner in RUNNERS:
        with deployed(runner):
            by_runner[runner] = without(specs(swarm), SHORT_LIVED)
    for spec in [spec for services in by_runner.values() for spec in services.values()]:
        # It is a hash of the spec with its ids, which differ in every deployment.
        assert 16 == len(spec["Labels"].pop("dask.swarm/revision"))
    assert by_runner["rehearsal"] == by_runner["pulumi"]
