"""actionlint over the workflows, as `make lint` runs it.

It is built from its source, because its packages on PyPI are empty and fetch it from elsewhere.
"""

import subprocess
import sys
from pathlib import Path
from shutil import which

from lab.golang import built
from lab.shell import LabError, say

VERSION = "1.7.12"
_MODULE = "github.com/rhysd/actionlint/cmd/actionlint"


def main() -> int:
    """Return 0 when it has no finding, else 1; its findings are printed."""
    try:
        actionlint = built("actionlint", _MODULE, VERSION)
    except LabError as error:
        say(str(error))
        return 1
    # By the set-up's own shellcheck, for the scripts in the workflows.
    beside = Path(sys.executable).parent
    shellcheck = which("shellcheck", path=str(beside)) or ""
    command = [str(actionlint), "-shellcheck", shellcheck, "-pyflakes", ""]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
