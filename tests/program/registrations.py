"""`python -m tests.program.registrations`: print what the program in this folder registers.

Reads config values as JSON on standard input; all other keys have their defaults.
"""

import json
import sys
from operator import attrgetter
from pathlib import Path

import yaml

from lab.config import load_config
from lab.rehearsal.program import Harness, run_program
from tests.program.conftest import Program

program = Program()
project = yaml.safe_load(Path("Pulumi.yaml").read_text(encoding="utf-8"))
run_program(
    Harness(program.record),
    Path("__main__.py"),
    load_config(project, {"config": json.load(sys.stdin)}),
    project=project["name"],
    stack="test",
    preview=True,
)
resources = sorted(program.resources, key=attrgetter("key"))
json.dump([vars(resource) for resource in resources], sys.stdout, default=sorted, sort_keys=True)
