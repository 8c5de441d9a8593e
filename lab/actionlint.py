"""Check the workflows with actionlint, as `make lint` does.

actionlint is built from its source: its packages on PyPI only download it from elsewhere.
"""

import subprocess
import sys
from pathlib import Path
from shutil import which

from lab.golang import ensure_program
from lab.shell import LabError, say

VERSION = "1.7.12"
_MODULE = "github.com/rhysd/actionlint/cmd/actionlint"


def main() -> int:
    """Print the findings; return 0 when there are none, else 1."""
    try:
        actionlint = ensure_program("actionlint", _MODULE, VERSION)
    except LabError as error:
        say(str(error))
        return 1
    # The set-up's own shellcheck, for the scripts in the workflows.
    shellcheck = which("shellcheck", path=str(Path(sys.executable).parent)) or ""
    command = [str(actionlint), "-shellcheck", shellcheck, "-pyflakes", ""]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
