"""Run the launcher: `DOCKER_HOST=… python -m health < request.json > proof.json`."""

import sys

from health.launch import main

if __name__ == "__main__":
    sys.exit(main())
