"""The rehearsal makes what the real engine makes."""

import json

import pytest

from tests.swarm.conftest import RUNNERS, specs

SHORT_LIVED = {"UpdateStatus", "SecretID", "SecretName", "ConfigID", "ConfigName"}


def without(spec, keys):
    """Return a spec without what is named anew at every deployment, its sets in one order."""
    if isinstance(spec, dict):
        return {key: without(value, keys) for key, value in spec.items() if key not in keys}
    if isinstance(spec, list) and all(isinstance(each, dict) for each in spec):
        return sorted((without(each, keys) for each in spec), key=json.dumps)
    return spec


@pytest.mark.skipif(RUNNERS != ["rehearsal", "pulumi"], reason="there is no Pulumi CLI to compare")
def test_both_runners_make_the_same_services(deployed, swarm):
    """`docker service inspect` shows the same, whichever of the two has deployed."""
    found = {}
    for runner in RUNNERS:
        with deployed(runner):
            found[runner] = without(specs(swarm), SHORT_LIVED)
    for spec in [each for services in found.values() for each in services.values()]:
        # It is a hash of the spec with the ids that each deployment gets.
        assert 16 == len(spec["Labels"].pop("dask.swarm/revision"))
    assert found["rehearsal"] == found["pulumi"]
