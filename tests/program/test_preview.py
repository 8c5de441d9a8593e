"""`python -m preview` over the program as it is: rules kept, secrets unseen, nobody asked."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from preview.registered import UnreadableError, registered
from preview.rules import findings
from tests.conftest import ROOT

SECRET = {"secure": "v1:abc:def"}
PUBLIC = {"domain": "example.org"}
AUTHELIA = {"auth": "authelia", "autheliaPortal": "https://auth.example.org"}
ACME = {"caddyMode": "managed", "acmeEmail": "admin@example.org"}
ACCOUNT = {"autheliaUser": "probe", "autheliaPassword": SECRET}
STACKS = {
    "defaults": {},
    "no Caddy": {"caddyMode": "none"},
    "a password": {"notebookPassword": SECRET},
    "managed, basic": PUBLIC | ACME | {"auth": "basic", "basicPassword": SECRET},
    "managed, Authelia": PUBLIC | ACME | AUTHELIA | ACCOUNT,
    "delivered": PUBLIC | AUTHELIA | ACCOUNT | {"caddyDirectory": "/srv/sites"},
    "localhost": {"domain": "localhost", "auth": "basic", "caddyMode": "managed"},
    "ssh": {"dockerHost": "ssh://deploy@manager", "notebookPassword": SECRET},
}


def checkout_of(folder):
    """Copy what the program consists of."""
    left_out = (".venv", ".git", ".lab", ".pulumi", "tests", "*cache*", "docs")
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*left_out))
    return folder


def configure(checkout, **config):
    """Write the config of the stack `pr`."""
    values = {f"dask-swarm:{key}": value for key, value in config.items()}
    (checkout / "Pulumi.pr.yaml").write_text(json.dumps({"config": values}))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Return a checkout whose stack can be configured."""
    return checkout_of(tmp_path_factory.mktemp("preview") / "here")


@pytest.mark.parametrize("name", STACKS)
def test_every_rule_is_kept(checkout, name):
    """Whatever the settings are: limits, health checks, images, ports, the path of secrets."""
    configure(checkout, **STACKS[name])
    found = registered(checkout, "pr")
    assert [] == findings(found.resources)
    assert 3 <= sum(each.type.endswith(":Service") for each in found.resources)


def test_a_program_that_fails_says_why(checkout):
    """The settings' own words reach the report."""
    configure(checkout, workers="none")
    with pytest.raises(UnreadableError, match="workers: 'none' is not valid"):
        registered(checkout, "pr")


def test_a_program_with_a_mistake_says_where(checkout, tmp_path):
    """The words of a mistake alone may be no more than the name of a key."""
    mistaken = checkout_of(tmp_path / "mistaken")
    configure(mistaken)
    with (mistaken / "components" / "workers.py").open("a", encoding="utf-8") as file:
        file.write('{}["x"]\n')
    with pytest.raises(UnreadableError, match=r"(?s)workers\.py.*KeyError: 'x'"):
        registered(mistaken, "pr")


def test_a_program_that_prints_is_read(checkout, tmp_path):
    """What it says is not taken for what it registers."""
    printing = checkout_of(tmp_path / "printing")
    configure(printing)
    with (printing / "__main__.py").open("a", encoding="utf-8") as file:
        file.write('print("hello")\n')
    configure(checkout)
    assert registered(checkout, "pr") == registered(printing, "pr")


def test_a_project_that_cannot_be_read_says_why(tmp_path):
    """In the report too: a pull request may have such a base, and mend it."""
    (tmp_path / "Pulumi.yaml").write_text("config: {")
    with pytest.raises(UnreadableError, match="line 1"):
        registered(tmp_path, "pr")


def preview(checkout, *options, **environment):
    """Run the report of a checkout on a machine with nothing but Python."""
    return subprocess.run(
        [sys.executable, "-m", "preview", "--stack", "pr", *options],
        cwd=checkout,
        env={"PATH": str(checkout), "HOME": str(checkout)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_report_tells_what_changes(checkout, tmp_path):
    """Against a checkout: the change and what follows from it, the values taken, the rules."""
    configure(checkout, notebookPassword=SECRET)
    shutil.copytree(checkout, tmp_path / "base")
    configure(checkout, notebookPassword=SECRET, workers=6)
    done = preview(checkout, "--base", tmp_path / "base", "--report", tmp_path / "report")
    assert 0 == done.returncode, done.stderr
    assert done.stdout == (tmp_path / "report").read_text()
    lines = done.stdout.splitlines()
    assert "# What this change makes of the stack pr" == lines[0]
    assert "! Service dask-workers-service" in lines
    assert "+     mode.replicated.replicas: 6" in lines
    assert not any("scheduler-service" in line for line in lines)
    assert any("image: ghcr.io/dask/dask:2026.7.1-py3.12, not in" in line for line in lines)
    assert lines[-1].startswith("kept by all ")


def test_nothing_changed_is_said(checkout):
    """A pull request that changes only words."""
    configure(checkout)
    done = preview(checkout, "--base", checkout)
    assert "nothing: every resource is declared as before" in done.stdout


def test_a_broken_rule_fails_the_preview(checkout, tmp_path):
    """The pull request is red, and the report says why."""
    broken = checkout_of(tmp_path / "broken")
    configure(broken)
    source = broken / "components" / "workers.py"
    text = source.read_text(encoding="utf-8")
    source.write_text(text.replace("image=shared.image", 'image="dask:latest"'), encoding="utf-8")
    done = preview(broken)
    assert 1 == done.returncode
    assert "- dask-workers-service: its image dask:latest is another one" in done.stdout


def test_a_base_that_cannot_be_previewed_is_no_failure(checkout, tmp_path):
    """The pull request that first brings this about has such a base."""
    configure(checkout)
    done = preview(checkout, "--base", tmp_path)
    assert 0 == done.returncode
    assert "without a comparison: what it is based on cannot be previewed" in done.stdout
    assert "+ Service dask-workers-service" in done.stdout


STAND_IN = """#!/bin/sh
if [ "$1" = version ]; then echo v3.999.0; exit; fi
echo asked $DASK_SWARM_OFFLINE $*
exit $STATUS
"""


def test_the_engine_is_asked_where_there_is_a_state(checkout, tmp_path):
    """With a backend the deployed stack is previewed too, offline, and a failure is one."""
    configure(checkout)
    cli = tmp_path / "pulumi"
    cli.write_text(STAND_IN)
    cli.chmod(0o755)
    for status in (0, 1):
        told = {"STATUS": str(status), "PULUMI_BACKEND_URL": "file:///state"}
        done = preview(checkout, PATH=f"{tmp_path}:{os.environ['PATH']}", **told)
        assert status == done.returncode
        assert "asked 1 preview --stack pr --refresh=false --diff" in done.stdout
