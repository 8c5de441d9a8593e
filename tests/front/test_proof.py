"""The proof passes for a good ingress, and reports the errors of a bad ingress."""

import json
import subprocess
import sys

import pytest

from health.ingress import IngressRequest, UnauthenticatedAccessError, prove
from lab.portal import PASSWORD, USER
from swarm import UnfitError
from swarm.progress import Progress
from tests.conftest import ROOT
from tests.front.conftest import NAMES, PORTAL
from tests.front.services import JUPYTER_PASSWORD, TOKEN


def request_for(ingress, **changed):
    """Return the request for an ingress, as plain data."""
    request = {
        "deadline_seconds": 2,
        "names": NAMES,
        "addresses": ["127.0.0.1"],
        "workers": 0,
        "port": ingress.caddy.https,
        "verified": False,
        "auth": ingress.auth,
        "portal": PORTAL,
        "user": USER if ingress.auth == "basic" else "",
        "password": PASSWORD if ingress.auth == "basic" else "",
        "notebook_token": "",
        "notebook_password": "",
    }
    return request | changed


def proof(ingress, **changed):
    """Return the proof of an ingress."""
    return prove(IngressRequest.parse(json.dumps(request_for(ingress, **changed))), Progress())


def test_a_good_ingress_is_proven(ingress):
    """Every service, without a login and, with credentials, behind the login."""
    proven = proof(ingress)
    inside = {"login": 200, "websocket": 101} if ingress.auth == "basic" else {}
    for site, host in NAMES.items():
        anonymous = {"url": f"https://{host}", "anonymous": 401 if inside else 302}
        assert anonymous | inside == proven[site]
    assert (ingress.auth, bool(inside)) == (proven["auth"], proven["login_tried"])


@pytest.mark.parametrize(
    "credentials",
    [{"notebook_token": TOKEN}, {"notebook_password": JUPYTER_PASSWORD}],
    ids=["token", "password"],
)
def test_jupyters_own_login_works_behind_the_login_of_the_ingress(new_ingress, credentials):
    """Without the front key the proof logs in twice."""
    proven = proof(new_ingress("basic", key="none"), **credentials)
    assert {"login": 200, "websocket": 101}.items() <= proven["notebook"].items()


def test_an_unexpected_login_of_jupyter_fails(new_ingress):
    """With the front key JupyterLab must not ask for a second login."""
    with pytest.raises(UnfitError, match="expected JupyterLab, found 302"):
        proof(new_ingress("basic", key="none"))


def test_a_page_with_a_token_fails_behind_a_basic_login(new_ingress):
    """JupyterLab opens, but its own requests replace the login by the token."""
    ingress = new_ingress("basic", page_token=TOKEN)
    with pytest.raises(UnfitError, match=r"own request for \S+/api/me .* expected 200, found 401"):
        proof(ingress)


@pytest.mark.parametrize("ingress", ["basic"], indirect=True)
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"password": "wrong"}, r"notebook.localhost/lab with a login: .* found 401"),
        ({"port": 1}, r"no answer \(127\.0\.0\.1:1 "),
        ({"verified": True}, r"certificate is not trusted"),
    ],
    ids=["login", "address", "certificate"],
)
def test_an_error_is_reported(ingress, changed, message):
    """The message has the address, the expected and the actual answer, but no credentials."""
    with pytest.raises(UnfitError, match=message) as caught:
        proof(ingress, **changed)
    assert "not proven within 2 s" in str(caught.value)
    assert PASSWORD not in str(caught.value)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("ingress", ["authelia"], indirect=True)
def test_a_redirect_to_another_portal_fails(ingress):
    """Only a redirect to the portal is a login."""
    with pytest.raises(UnfitError, match=r"expected the portal https://other\.org, found"):
        proof(ingress, portal="https://other.org")


def test_access_without_a_login_fails_at_once(new_ingress):
    """Waiting does not help."""
    ingress, message = (
        new_ingress("none"),
        "the ingress is open: the anonymous request to https://",
    )
    with pytest.raises(UnauthenticatedAccessError, match=message):
        proof(ingress, auth="basic", deadline_seconds=60)


def test_an_ingress_without_a_login_is_proven(new_ingress):
    """With `auth: none` no request is refused, but all services must answer."""
    proven = proof(new_ingress("none"))
    assert "anonymous" not in proven["notebook"]
    assert (200, 101) == (proven["dashboard"]["login"], proven["dashboard"]["websocket"])


class TestProgram:
    def run(self, text):
        return subprocess.run(
            [sys.executable, "-m", "health.ingress"],
            input=text, cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def test_prints_the_proof_and_no_credentials(self, ingress):
        """Its output becomes a stack output in plain text."""
        done = self.run(json.dumps(request_for(ingress)))
        assert 0 == done.returncode, done.stderr
        assert ingress.auth == json.loads(done.stdout)["auth"]
        assert PASSWORD not in done.stdout + done.stderr

    def test_does_not_print_an_invalid_request(self):
        """It may contain a password."""
        done = self.run('{"password": "s3cret"}')
        assert 1 == done.returncode
        assert "not understood" in done.stderr
        assert "s3cret" not in done.stdout + done.stderr
