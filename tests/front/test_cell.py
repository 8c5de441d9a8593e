"""A cell of the notebook that is run through the front, as JupyterLab runs it."""

import pytest

from swarm import UnfitError
from tests.front.services import JUPYTER_PASSWORD, TOKEN
from tests.front.test_proof import proof


def test_a_cell_runs_behind_a_login_in_front(new_scene):
    """The key opens the notebook; requests carry its token against forged ones."""
    proof(new_scene("basic"), workers=4)


@pytest.mark.parametrize(
    "known",
    [{"notebook_token": TOKEN}, {"notebook_password": JUPYTER_PASSWORD}],
    ids=["token", "password"],
)
def test_a_cell_runs_behind_both_logins(new_scene, known):
    """Where the notebook asks for its own login too."""
    proof(new_scene("basic", key="none"), workers=4, **known)


def test_a_cell_that_fails_is_final(new_scene):
    """No waiting makes other workers of those that are there."""
    with pytest.raises(UnfitError, match="compute on 5 workers"):
        proof(new_scene("basic"), workers=5, deadline_seconds=60)
