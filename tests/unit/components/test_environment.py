"""Variables and packages, as the programs in the containers read them."""

import json
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.object_store import ObjectStore, object_store_variables, scheduler_variables
from components.scheduler import scheduler_args
from components.service import package_environment
from config.settings import parse_settings
from config.types import environment_variables, requirements
from tests.hostile import HOSTILE

TEXTS = st.sampled_from([text for text in HOSTILE if len(text) < 5000]) | st.text(max_size=20)


def accepted(parse, text):
    """Return a parsed text, or None if it is refused."""
    try:
        return parse(text)
    except ValueError:
        return None


def variables_of(command, **options):
    """Return the environment that a command prints, each variable ended by a null byte."""
    done = subprocess.run(command, capture_output=True, check=True, **options)
    lines = done.stdout.decode().split("\0")[:-1]
    return dict(line.split("=", 1) for line in lines)


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(value=TEXTS)
def test_a_process_gets_any_variable_as_the_config_has_it(value):
    """Workers and notebook read the file as JSON, and their processes inherit the variables."""
    variables = accepted(environment_variables, json.dumps({"NAME": value}))
    if variables is None:
        assert "\0" in value or "\ud800" in value
        return
    read_back = json.loads(json.dumps(variables))
    assert {"NAME": value} == variables_of(["/usr/bin/env", "-0"], env=read_back)


@pytest.mark.parametrize("name", ["A=B", "a b", "", "1", "A\n", "$(id)", "é"])
def test_a_name_of_a_variable_is_one_word(name):
    """Another name would set another variable, or none."""
    assert accepted(environment_variables, json.dumps({name: "x"})) is None


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS | st.from_regex(r"[a-z][a-z0-9.-]{0,9}(\[[a-z, ]*\])?[<>=!~ 0-9.*a-z,]{0,12}"))
def test_a_shell_splits_the_packages_as_the_config_has_them(tmp_path, text):
    """The official images start pip with the list unquoted."""
    packages = accepted(requirements, json.dumps(["first", text, "last==1"]))
    if packages is None:
        return
    split = ["bash", "-c", "printf '%s\\0' $EXTRA_PIP_PACKAGES"]
    done = subprocess.run(
        split, env=package_environment(packages), cwd=tmp_path, capture_output=True, check=True
    )
    assert [*packages] == done.stdout.decode().split("\0")[:-1]
    assert 3 == len(packages)
    assert not packages[1].startswith("-")


def test_the_scheduler_gets_the_variables_of_its_command_line(defaults):
    """`env` sets them without a shell."""
    values = {
        "s3AccessKey": "x",
        "s3SecretKey": "y",
        "s3Region": "eu-1",
        "s3Endpoint": "https://h:1/a~b",
    }
    store = parse_settings(defaults | values, {"s3SecretKey"}, {}).object_store
    variables = scheduler_variables(ObjectStore(variables=object_store_variables(store)))
    command = scheduler_args(variables)
    assert "https://h:1/a~b" == variables["AWS_ENDPOINT_URL"]
    options = command[: command.index("dask")]
    assert variables == variables_of([*options, "/usr/bin/env", "-0"], env={})
