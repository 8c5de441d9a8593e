"""The part of Jupyter's settings that the notebook image brings: features, no access rules.

Every Jupyter program reads it in /etc/jupyter before its other settings.
"""

import site
from contextlib import suppress
from pathlib import Path
from typing import Any

c = get_config()  # noqa: F821  Jupyter provides it

EXAMPLES = Path("/opt/examples")
CREDENTIALS = ("Authorization", "Cookie", "Proxy-Authorization")


def is_dashboard(handler: Any, host: str) -> bool:  # noqa: ANN401  tornado's request handler
    """Return whether a request is for the scheduler's dashboard, and remove its credentials.

    Users of the cluster can run code in the scheduler, which must not see the notebook's login.
    """
    for name in CREDENTIALS:
        handler.request.headers.pop(name, None)
    port = handler.path_args[1]
    return (host, port) == ("scheduler", "8787")


c.ServerProxy.host_allowlist = is_dashboard

# Python looks for packages in the home only if this folder exists when Python starts.
with suppress(OSError):
    Path(site.getusersitepackages()).mkdir(parents=True, exist_ok=True)

# The home is a volume, perhaps an old one: replace nothing in it.
with suppress(OSError):
    (Path.home() / EXAMPLES.name).symlink_to(EXAMPLES)
