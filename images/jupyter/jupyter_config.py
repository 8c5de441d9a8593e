"""The notebook image's own part of Jupyter's settings: what it offers, not who may use it.

Lies in /etc/jupyter, where every Jupyter program reads it before its other settings.
"""

import site
from contextlib import suppress
from pathlib import Path
from typing import Any

c = get_config()  # noqa: F821  Jupyter provides it

EXAMPLES = Path("/opt/examples")
CREDENTIALS = ("Authorization", "Cookie", "Proxy-Authorization")


def is_dashboard(handler: Any, host: str) -> bool:  # noqa: ANN401  tornado's request handler
    """Tell whether a request is for the scheduler's dashboard, and take the credentials from it.

    Who computes on the cluster can run code in the scheduler, which must not see the notebook's.
    """
    for name in CREDENTIALS:
        handler.request.headers.pop(name, None)
    port = handler.path_args[1]
    return (host, port) == ("scheduler", "8787")


c.ServerProxy.host_allowlist = is_dashboard

# Python looks for packages in the home only if the folder was there when it started.
with suppress(OSError):
    Path(site.getusersitepackages()).mkdir(parents=True, exist_ok=True)

# The home is a volume, perhaps an old one, and nothing in it is replaced.
with suppress(OSError):
    (Path.home() / EXAMPLES.name).symlink_to(EXAMPLES)
