"""`python -m tests.program.registrations`: print what the program in this folder registers.

Reads config values as JSON on standard input; all other keys have their defaults.
"""

import json
import runpy
import sys
from operator import attrgetter
from pathlib import Path

import pulumi
import yaml
from pulumi.runtime import set_all_config, set_mocks, test

from tests.program.conftest import Program, Recorder

project = yaml.safe_load(Path("Pulumi.yaml").read_text(encoding="utf-8"))
defaults = {key: declared["default"] for key, declared in project["config"].items()}
config = {
    f"dask-swarm:{key}": value if isinstance(value, str) else json.dumps(value)
    for key, value in (defaults | json.load(sys.stdin)).items()
}
program = Program()
set_all_config(config)
set_mocks(Recorder(program), project="dask-swarm", stack="test", preview=True)
pulumi.export = lambda *_: None
test(lambda: runpy.run_path("__main__.py", run_name="__main__"))()
resources = sorted(program.resources, key=attrgetter("type", "name"))
json.dump([vars(each) for each in resources], sys.stdout, default=sorted, sort_keys=True)
