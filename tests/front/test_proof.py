"""The proof of the front holds for a front that is right, and says what is wrong with one."""

import json
import subprocess
import sys

import pytest

from health.ingress import OpenDoorError, Request, prove
from swarm import UnfitError
from swarm.progress import Progress
from tests.conftest import ROOT
from tests.front.conftest import NAMES, PORTAL
from tests.front.portal import PASSWORD, USER
from tests.front.services import JUPYTER_PASSWORD, TOKEN


def asked(scene, **changed):
    """Return the request that fits a scene, as plain data."""
    request = {
        "deadline_seconds": 2,
        "names": NAMES,
        "addresses": ["127.0.0.1"],
        "workers": 0,
        "port": scene.front.https,
        "verified": False,
        "auth": scene.auth,
        "portal": PORTAL,
        "user": USER if scene.auth == "basic" else "",
        "password": PASSWORD if scene.auth == "basic" else "",
        "notebook_token": "",
        "notebook_password": "",
    }
    return request | changed


def proof(scene, **changed):
    """Return what is proven of a scene."""
    return prove(Request.parse(json.dumps(asked(scene, **changed))), Progress())


def test_a_good_front_is_proven(scene):
    """Every name, anonymous and, with credentials, behind the login."""
    found = proof(scene)
    inside = {"login": 200, "websocket": 101} if scene.auth == "basic" else {}
    for site, host in NAMES.items():
        anonymous = {"url": f"https://{host}", "anonymous": 401 if inside else 302}
        assert anonymous | inside == found[site]
    assert (scene.auth, bool(inside)) == (found["auth"], found["login_tried"])


@pytest.mark.parametrize(
    "known",
    [{"notebook_token": TOKEN}, {"notebook_password": JUPYTER_PASSWORD}],
    ids=["token", "password"],
)
def test_jupyters_own_login_opens_it_behind_the_one_in_front(new_scene, known):
    """Where it asks for one itself, both are tried."""
    found = proof(new_scene("basic", key="none"), **known)
    assert {"login": 200, "websocket": 101}.items() <= found["notebook"].items()


def test_a_notebook_that_asks_and_should_not_is_refused(new_scene):
    """Without the front key JupyterLab would ask a second time."""
    with pytest.raises(UnfitError, match="expected JupyterLab, found 302"):
        proof(new_scene("basic", key="none"))


def test_a_page_that_takes_the_logins_place_is_refused(new_scene):
    """With a token in its page JupyterLab opens, and then none of its own requests passes."""
    scene = new_scene("basic", page_token=TOKEN)
    with pytest.raises(UnfitError, match=r"own request for \S+/api/me .* expected 200, found 401"):
        proof(scene)


@pytest.mark.parametrize("scene", ["basic"], indirect=True)
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"password": "wrong"}, r"notebook.localhost/lab with a login: .* found 401"),
        ({"port": 1}, r"no answer \(127\.0\.0\.1:1 "),
        ({"verified": True}, r"certificate is not trusted"),
    ],
    ids=["login", "address", "certificate"],
)
def test_what_is_wrong_is_said(scene, changed, message):
    """The message names the address, what was expected and what was found; no credentials."""
    with pytest.raises(UnfitError, match=message) as caught:
        proof(scene, **changed)
    assert "not proven within 2 s" in str(caught.value)
    assert PASSWORD not in str(caught.value)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("scene", ["authelia"], indirect=True)
def test_another_portal_is_not_the_portal(scene):
    """A redirect to anywhere else is no login."""
    with pytest.raises(UnfitError, match=r"expected the portal https://other\.org, found"):
        proof(scene, portal="https://other.org")


def test_an_open_door_fails_at_once(new_scene):
    """Nobody waits for a front that lets everybody in to get better."""
    scene = new_scene("none")
    with pytest.raises(
        OpenDoorError, match="the front is open: the anonymous request to https://"
    ):
        proof(scene, auth="basic", deadline_seconds=60)


def test_a_front_without_login_is_proven_open(new_scene):
    """`auth: none`: there is nothing to be refused, and still both services have to answer."""
    found = proof(new_scene("none"))
    assert "anonymous" not in found["notebook"]
    assert (200, 101) == (found["dashboard"]["login"], found["dashboard"]["websocket"])


class TestProgram:
    def run(self, text):
        return subprocess.run(
            [sys.executable, "-m", "health.ingress"],
            input=text, cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def test_prints_the_proof_and_no_credentials(self, scene):
        """Its output is the stack's, in plain."""
        done = self.run(json.dumps(asked(scene)))
        assert 0 == done.returncode, done.stderr
        assert scene.auth == json.loads(done.stdout)["auth"]
        assert PASSWORD not in done.stdout + done.stderr

    def test_does_not_repeat_a_request_that_it_does_not_understand(self):
        """There may be a password in it."""
        done = self.run('{"password": "s3cret"}')
        assert 1 == done.returncode
        assert "not understood" in done.stderr
        assert "s3cret" not in done.stdout + done.stderr
