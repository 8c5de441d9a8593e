"""A cell of the notebook runs through the ingress, as in JupyterLab."""

import pytest

from swarm import UnfitError
from tests.front.services import JUPYTER_PASSWORD, TOKEN
from tests.front.test_proof import proof


def test_a_cell_runs_behind_the_login_of_the_ingress(new_ingress):
    """The front key opens the notebook; requests have the XSRF token."""
    proof(new_ingress("basic"), workers=4)


@pytest.mark.parametrize(
    "credentials",
    [{"notebook_token": TOKEN}, {"notebook_password": JUPYTER_PASSWORD}],
    ids=["token", "password"],
)
def test_a_cell_runs_behind_both_logins(new_ingress, credentials):
    """Without the front key the notebook asks for its own login too."""
    proof(new_ingress("basic", key="none"), workers=4, **credentials)


def test_a_failed_cell_fails_at_once(new_ingress):
    """Waiting does not add workers."""
    with pytest.raises(UnfitError, match="compute on 5 workers"):
        proof(new_ingress("basic"), workers=5, deadline_seconds=60)
