"""The scripts of the workflows, with a stand-in for GitHub's client; the linters hold the rest."""

import os
import re
import subprocess

import pytest
import yaml

from tests.conftest import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
GH = """#!/bin/bash
case "$*" in
"issue list "*"--json author,number,title"*".author.is_bot"*) echo "$OPEN" ;;
"run download 1 --name drift-2 --dir report")
  mkdir report; echo "~ dask_worker update" >report/drift.txt ;;
*) printf '%s|' "$@" >>"$LOG"; if [[ -e issue.md ]]; then cat issue.md >>"$LOG"; fi ;;
esac
"""


@pytest.fixture
def drift(tmp_path):
    """Return what runs the drift workflow's script and returns what it did on GitHub."""
    (tmp_path / "gh").write_text(GH)
    (tmp_path / "gh").chmod(0o755)

    def run(status, is_open=""):
        log = tmp_path / "log"
        log.unlink(missing_ok=True)
        told = {"STATUS": str(status), "OPEN": is_open, "LOG": str(log), "PAGE": "https://run"}
        told |= {"STACK": "prod", "RUN": "1", "REPORT": "drift-2", "PYTHONPATH": str(ROOT)}
        environment = os.environ | told | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        script = ROOT / ".github" / "drift.sh"
        subprocess.run([script], cwd=tmp_path, env=environment, check=True, timeout=60)
        return log.read_text() if log.exists() else ""

    return run


def test_drift_opens_one_issue(drift):
    """What was found is in it, as text, with the way out."""
    done = drift(7)
    assert done.startswith("issue|create|--title|Drift of the stack prod|")
    assert "```diff\n~ dask_worker update\n```" in done
    assert "`pulumi up` repairs what was changed by hand" in done


def test_a_look_that_fails_is_not_told_as_drift(drift):
    """Neither a backend nor a manager out of reach is cured by an `up`."""
    done = drift(1)
    assert "The look itself failed, so that nobody knows of drift" in done
    assert "pulumi up" not in done


def test_drift_that_stays_updates_the_issue(drift):
    """There are never two."""
    assert drift(7, is_open="7").startswith("issue|edit|7|")


def test_drift_that_is_gone_closes_the_issue(drift):
    """And says where that was seen; without an issue nothing is done."""
    assert "issue|close|7|--comment|Gone: https://run|" == drift(0, is_open="7")
    assert "" == drift(0)


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ({"SSH_KEY": ""}, None),
        ({"SSH_KEY": "key", "SSH_KNOWN_HOSTS": "manager ssh-ed25519 AAAA"}, "key\n"),
    ],
    ids=["no SSH", "SSH"],
)
def test_the_manager_is_let_in_by_key(tmp_path, given, written):
    """Only this user reads the key; the manager's own must be the known one."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)} | given
    subprocess.run([ROOT / ".github" / "ssh.sh"], env=environment, check=True, timeout=60)
    key = tmp_path / ".ssh" / "id_deploy"
    assert written == (key.read_text() if key.exists() else None)
    if written:
        assert 0o600 == key.stat().st_mode & 0o777
        assert "StrictHostKeyChecking yes" in (tmp_path / ".ssh" / "config").read_text()


def test_a_key_without_a_known_manager_is_refused(tmp_path):
    """Nobody is trusted at first sight."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "SSH_KEY": "key"}
    script = ROOT / ".github" / "ssh.sh"
    done = subprocess.run([script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "SSH_KNOWN_HOSTS is not set" in done.stderr
    assert not (tmp_path / ".ssh").exists()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_no_right_but_its_jobs_own(path):
    """Every action is one commit, nothing is granted to all jobs, no fork is trusted."""
    text = path.read_text()
    workflow = yaml.safe_load(text)
    assert {} == workflow["permissions"]
    assert {"pull_request_target", "workflow_run"}.isdisjoint(workflow[True])
    for action in re.findall(r"uses: (.+)", text):
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", action)


# What a job may not do without, by what it does.
NEEDED = {
    "gh run download": ("actions", "read"),
    "gh pr comment": ("pull-requests", "write"),
    "gh issue ": ("issues", "write"),
    "actions/checkout@": ("contents", "read"),
}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_job_has_the_rights_that_it_needs_and_no_other(path):
    """GitHub refuses a job's token what is not granted: no linter tells, only the run would."""
    for job in yaml.safe_load(path.read_text())["jobs"].values():
        steps = [each.get("run", each.get("uses")) for each in job["steps"]]
        scripts = [ROOT / step for step in steps if step.startswith(".github/")]
        done = "\n".join([*steps, *(script.read_text() for script in scripts)])
        assert dict(right for what, right in NEEDED.items() if what in done) == job["permissions"]


def steps_of(name, job):
    """Return the steps of a workflow's job by their names."""
    workflow = yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())
    return {each["name"]: each for each in workflow["jobs"][job]["steps"]}


def test_a_pull_request_is_compared_with_what_it_is_merged_into():
    """Whatever the base was when the event was sent."""
    steps = steps_of("preview", "preview")
    assert 2 == steps["Check out"]["with"]["fetch-depth"]
    assert steps["Check out what it is merged into"]["run"].endswith(" .lab/base HEAD^")


@pytest.mark.parametrize(("name", "job"), [("preview", "preview"), ("drift", "look")])
def test_every_attempt_hands_on_its_own_report(name, job):
    """A second attempt of a run does not replace what the first one has kept."""
    [kept] = [
        each["with"]["name"]
        for each in steps_of(name, job).values()
        if "upload" in each.get("uses", "")
    ]
    assert f"{name}-${{{{ github.run_attempt }}}}" == kept
    text = (ROOT / f".github/workflows/{name}.yml").read_text()
    assert f"REPORT: ${{{{ needs.{job}.outputs.report }}}}" in text


def test_a_report_waits_for_no_test():
    """What a change means is wanted most where it breaks one."""
    steps = [*steps_of("preview", "preview")]
    assert "Hold the program against the rules" == steps[-1]


@pytest.mark.parametrize(("name", "job"), [("deploy", "deploy"), ("drift", "look")])
def test_what_is_deployed_and_looked_for_is_main(name, job):
    """By hand a workflow can be started for any branch."""
    workflow = yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())
    assert "workflow_dispatch" in workflow[True]
    assert "vars.STACK != '' && github.ref == 'refs/heads/main'" == workflow["jobs"][job]["if"]


@pytest.mark.parametrize(("name", "job"), [("deploy", "deploy"), ("drift", "look")])
def test_a_deployment_is_never_cancelled_nor_alone_with_the_drift(name, job):
    """One at a time; what waits is cancelled for the next, but never for the other workflow."""
    workflow = yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())
    assert {"group": name, "cancel-in-progress": False} == workflow["concurrency"]
    both = {"group": "swarm", "cancel-in-progress": False}
    assert both == workflow["jobs"][job]["concurrency"]
