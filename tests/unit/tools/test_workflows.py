"""The workflows' rights and guards, and their scripts with a stub of GitHub's client."""

import os
import re
import subprocess
from importlib.util import find_spec

import pytest
import yaml

from tests.conftest import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
LONGEST = 65_536  # characters that GitHub accepts in an issue
GH = """#!/bin/bash
case "$*" in
"issue list "*"--json author,number,title"*".author.is_bot"*) echo "$OPEN" ;;
"run download 1 --name drift-2 --dir report") cp -P "$FOUND" report/drift.txt ;;
*) printf '%s|' "$@" >>"$LOG"; if [[ -e issue.md ]]; then cat issue.md >>"$LOG"; fi ;;
esac
"""


@pytest.fixture
def drift(tmp_path):
    """Return a function that runs the script of the drift workflow and returns its calls of gh."""
    (tmp_path / "gh").write_text(GH)
    (tmp_path / "gh").chmod(0o755)
    (tmp_path / "report").mkdir()
    drift, log = tmp_path / "found.txt", tmp_path / "log"

    def run(status, text=b"~ dask_worker update\n", is_open=""):
        log.unlink(missing_ok=True)
        if not drift.is_symlink():
            drift.write_bytes(text)
        given = {"STATUS": str(status), "OPEN": is_open, "LOG": str(log), "PAGE": "https://run"}
        given |= {"STACK": "prod", "RUN": "1", "ARTIFACT": "drift-2", "FOUND": str(drift)}
        environment = os.environ | given | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        script = ROOT / ".github" / "drift.sh"
        subprocess.run([script], cwd=tmp_path, env=environment, check=True, timeout=60)
        return log.read_text() if log.exists() else ""

    return run


def test_drift_opens_one_issue(drift):
    """The issue has the report as text, and the next step."""
    done = drift(7)
    assert done.startswith("issue|create|--title|Drift of the stack prod|")
    assert "### Drift check: https://run\n\n```diff\n~ dask_worker update\n```\n" in done
    assert "`pulumi up` undoes the drift." in done


def test_a_failed_check_is_not_reported_as_drift(drift):
    """An `up` repairs neither a backend nor a manager out of reach."""
    done = drift(1)
    assert "The drift check failed, so drift is unknown." in done
    assert "pulumi up" not in done


def test_drift_that_stays_updates_the_issue(drift):
    """There are never two issues."""
    assert drift(7, is_open="7").startswith("issue|edit|7|")


def test_drift_that_is_gone_closes_the_issue(drift):
    """The comment names the run; without an issue nothing happens."""
    assert "issue|close|7|--comment|The drift is gone: https://run|" == drift(0, is_open="7")
    assert "" == drift(0)


@pytest.mark.parametrize("ticks", [b"```", b"````", b"`" * 40])
def test_the_report_cannot_leave_its_code_block(drift, ticks):
    """Text after it would be Markdown that mentions people and loads images."""
    lines = drift(7, b"a\n%b\n@everybody <img src=x>" % ticks).splitlines()
    ends = [number for number, line in enumerate(lines) if line.startswith("```")]
    assert ["```diff", "a", "'" * len(ticks), "@everybody <img src=x>", "```"] == lines[
        ends[0] : ends[-1] + 1
    ]
    assert 2 == len(ends)


def test_the_report_has_no_control_characters(drift):
    """Colours of a terminal, bells, carriage returns, characters that turn or hide text."""
    text = "\x1b[31mred\x1b[0m\x07 a\u202eb\u200bc\td\r\x00e".encode() + b"\xff\xfe"
    assert "\nred? a???b???c\td??e??\n" in drift(7, text)


@pytest.mark.parametrize("length", [LONGEST, 2_000_000])
def test_a_long_report_loses_its_middle(drift, length):
    """GitHub refuses longer ones; the error is at the end."""
    done = drift(7, b"begin" + b"x" * length + b"end")
    assert len(done) < LONGEST
    assert "\n... the middle is left out here: see the run ...\n" in done
    assert "\nbegin" in done
    assert "end\n```\n" in done


def test_a_link_in_the_artifact_is_refused(drift, tmp_path):
    """The link could point at any file of the runner."""
    (tmp_path / "found.txt").symlink_to("/etc/passwd")
    with pytest.raises(subprocess.CalledProcessError):
        drift(7)
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ({"SSH_KEY": ""}, None),
        ({"SSH_KEY": "key", "SSH_KNOWN_HOSTS": "manager ssh-ed25519 AAAA"}, "key\n"),
    ],
    ids=["no SSH", "SSH"],
)
def test_ssh_to_the_manager_is_set_up(tmp_path, given, written):
    """Only this user can read the key; the manager's host key must be known."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)} | given
    subprocess.run([ROOT / ".github" / "ssh.sh"], env=environment, check=True, timeout=60)
    key = tmp_path / ".ssh" / "id_deploy"
    assert written == (key.read_text() if key.exists() else None)
    if written:
        assert 0o600 == key.stat().st_mode & 0o777
        assert "StrictHostKeyChecking yes" in (tmp_path / ".ssh" / "config").read_text()


def test_a_key_without_known_hosts_is_refused(tmp_path):
    """SSH would trust any manager at first sight."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "SSH_KEY": "key"}
    script = ROOT / ".github" / "ssh.sh"
    done = subprocess.run([script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "SSH_KNOWN_HOSTS is not set" in done.stderr
    assert not (tmp_path / ".ssh").exists()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_grants_rights_to_single_jobs_only(path):
    """Every action is pinned to a commit, and no event gives a fork's code rights or secrets."""
    text = path.read_text()
    workflow = yaml.safe_load(text)
    assert {} == workflow["permissions"]
    assert {"pull_request_target", "workflow_run"}.isdisjoint(workflow[True])
    for action in re.findall(r"uses: (.+)", text):
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", action)


# The right that a job needs for a command, an action or an action's input.
NEEDED = {
    "gh run download": ("actions", "read"),
    "comment-on-pr: true": ("pull-requests", "write"),
    "gh issue ": ("issues", "write"),
    "actions/checkout@": ("contents", "read"),
}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_job_has_the_rights_that_it_needs_and_no_other(path):
    """No linter knows them: only the run on GitHub would fail."""
    for job in yaml.safe_load(path.read_text())["jobs"].values():
        scripts = [step["run"] for step in job["steps"] if "run" in step]
        files = [ROOT / script for script in scripts if script.startswith(".github/")]
        done = "\n".join([yaml.safe_dump(job["steps"]), *(file.read_text() for file in files)])
        assert dict(right for what, right in NEEDED.items() if what in done) == job["permissions"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_modules_that_exist(path):
    """No linter looks into the scripts."""
    for module in re.findall(r"python3? -m ([\w.]+)", path.read_text()):
        assert find_spec(module), module


def job_of(name, job):
    """Return a job of a workflow."""
    return yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())["jobs"][job]


def pulumi_step(name, job):
    """Return the job's step that runs Pulumi's action."""
    (step,) = [
        step
        for step in job_of(name, job)["steps"]
        if step.get("uses", "").startswith("pulumi/actions@")
    ]
    return step


def test_a_pull_request_is_previewed_by_one_job():
    """A pull request of the repository gets the real stack, every other one the dev stack."""
    same = "github.event.pull_request.head.repo.full_name {} github.repository"
    assert f"vars.STACK != '' && {same.format('==')}" == job_of("preview", "preview")["if"]
    assert f"vars.STACK == '' || {same.format('!=')}" == job_of("preview", "fork")["if"]


@pytest.mark.parametrize("job", ["preview", "fork"])
def test_a_preview_does_not_ask_the_swarm(job):
    """The runner does not reach it."""
    step = pulumi_step("preview", job)
    assert "preview" == step["with"]["command"]
    assert "1" == step["env"]["DASK_SWARM_OFFLINE"]
    # The action has no input for it, and `refresh: always` in Pulumi.yaml would refresh.
    assert "false" == step["env"]["PULUMI_OPTION_REFRESH"]


def test_a_preview_of_the_stack_is_a_comment():
    """It shows reviewers the effect of `up` on the deployed stack."""
    step = pulumi_step("preview", "preview")
    assert "${{ vars.STACK }}" == step["with"]["stack-name"]
    assert step["with"]["comment-on-pr"] is True
    assert not {"upsert", "config-map"} & step["with"].keys()


def test_a_fork_gets_neither_secrets_nor_rights():
    """A pull request can contain any code."""
    job = job_of("preview", "fork")
    assert "environment" not in job
    assert not re.search(r"secrets|github\.token|GITHUB_TOKEN", yaml.safe_dump(job))
    assert {"contents": "read"} == job["permissions"]
    step = pulumi_step("preview", "fork")
    assert "file://${{ runner.temp }}" == step["env"]["PULUMI_BACKEND_URL"]
    assert step["with"]["comment-on-summary"] is True
    assert "comment-on-pr" not in step["with"]


@pytest.mark.parametrize(
    ("name", "job"), [("preview", "preview"), ("preview", "fork"), ("test", "test")]
)
def test_the_cli_is_as_new_as_the_sdk(name, job):
    """An older CLI of the runner's image would be refused by the tests."""
    pinned = re.search(r"^pulumi==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert pinned[1] == pulumi_step(name, job)["with"]["pulumi-version"]


def test_the_tests_find_the_cli():
    """Plain `sudo` has a PATH without it, and the Swarm suites would skip the engine."""
    assert "command" not in pulumi_step("test", "test")["with"]
    assert 'sudo env PATH="$PATH" .ci/run' == job_of("test", "test")["steps"][-1]["run"]


def test_every_attempt_has_an_artifact_with_another_name():
    """A second attempt of a run must not report what the first one saw."""
    (kept,) = [
        step["with"]["name"]
        for step in job_of("drift", "detect")["steps"]
        if "upload" in step.get("uses", "")
    ]
    assert "drift-${{ github.run_attempt }}" == kept
    assert kept == job_of("drift", "detect")["outputs"]["artifact"]
    text = (ROOT / ".github/workflows/drift.yml").read_text()
    assert "ARTIFACT: ${{ needs.detect.outputs.artifact }}" in text


@pytest.mark.parametrize(("name", "job"), [("deploy", "deploy"), ("drift", "detect")])
def test_only_main_is_deployed_and_checked(name, job):
    """A user can start a workflow for any branch."""
    workflow = yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())
    assert "workflow_dispatch" in workflow[True]
    assert "vars.STACK != '' && github.ref == 'refs/heads/main'" == workflow["jobs"][job]["if"]


@pytest.mark.parametrize(("name", "job"), [("deploy", "deploy"), ("drift", "detect")])
def test_deployment_and_drift_check_neither_overlap_nor_cancel_each_other(name, job):
    """A newer run replaces one that waits, but never one of the other workflow."""
    workflow = yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())
    assert {"group": name, "cancel-in-progress": False} == workflow["concurrency"]
    both = {"group": "swarm", "cancel-in-progress": False}
    assert both == workflow["jobs"][job]["concurrency"]


@pytest.mark.parametrize("name", ["deploy", "drift", "preview"])
def test_no_workflow_of_a_stack_runs_the_lab(name):
    """A runner must not become a Swarm: `make up` of the dev stack would make it."""
    text = (ROOT / ".github" / "workflows" / f"{name}.yml").read_text()
    lines = [line.partition("#")[0] for line in text.splitlines()]
    assert not [line for line in lines if re.search(r"make (up|destroy|lab)|-m lab", line)]
