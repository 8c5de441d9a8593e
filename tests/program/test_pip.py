"""pip finds its configuration in every container that may install packages."""

import base64
import json

import pytest

OPTIONS = {
    "proxy": "http://proxy.example.org:3128",
    "index-url": "https://me:p%40ss@pypi.example.org/simple",
    "trusted-host": ["pypi.example.org", "10.0.0.1"],
    "no-cache-dir": True,
}
FILE = """[global]
index-url = https://me:p%40ss@pypi.example.org/simple
no-cache-dir = true
proxy = http://proxy.example.org:3128
trusted-host = pypi.example.org 10.0.0.1

"""
SECRET = "docker:index/secret:Secret"
SERVICES = ["dask_scheduler", "dask_worker", "dask_notebook", "dask_prefect"]


@pytest.fixture
def program(run):
    """Return what the program declares with options of pip."""
    return run(pipConfig=json.dumps(OPTIONS), prefect="managed")


def files(program, name):
    """Return the names of a service's secrets by their files."""
    mounts = program.container(name)["secrets"]
    return {mount["fileName"]: mount["secretId"] for mount in mounts}


def test_one_secret_holds_all_options(program):
    """In pip's own format; the address of an index may hold a password."""
    (secret,) = [secret for secret in program.of_type(SECRET) if "pip" in secret.name]
    assert FILE == base64.b64decode(secret.inputs["data"]).decode()
    assert "data" in secret.secret


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_it_where_pip_looks(program, name):
    """The official images run pip before the command, so a variable in it would come too late."""
    assert "dask-pip-id" == files(program, name)["/etc/pip.conf"]


def test_the_probe_has_it_too(program):
    """It installs the same packages."""
    request = json.loads(program.command("dask-health-run").inputs["stdin"])
    file = {"id": "dask-pip-id", "name": "dask-pip-1a2b3c4", "file": "/etc/pip.conf"}
    assert file in request["secrets"]


def test_without_options_there_is_no_file(run):
    """Existing stacks and the images' own files stay as they are."""
    program = run(prefect="managed")
    assert all("/etc/pip.conf" not in files(program, name) for name in SERVICES)
    assert not any("pip" in secret.name for secret in program.of_type(SECRET))
