"""Jupyter's settings, mounted into the notebook's container as a Swarm config."""

from pathlib import Path

from jupyter_server.auth import passwd

c = get_config()  # noqa: F821  Jupyter provides it

TOKEN = Path("/run/secrets/notebook_token")
PASSWORD = Path("/run/secrets/notebook_password")
LOGIN_ELSEWHERE = Path("/etc/jupyter/login_elsewhere")

c.ServerApp.ip = "0.0.0.0"  # noqa: S104  only Swarm networks lead here, no port is published
c.ServerApp.port = 8888
c.ServerApp.port_retries = 0
c.ServerApp.open_browser = False
c.ServerApp.allow_unauthenticated_access = False
# Caddy is in front, and says who asks and that it was by https. It passes the name on that was
# asked for, against which the origin of a request is checked: no other origin is allowed.
c.ServerApp.trust_xheaders = True
# Proxies on the way cut off a websocket that is silent for a minute.
c.ServerApp.websocket_ping_interval = 30

if LOGIN_ELSEWHERE.exists():
    # The one in front is the only one (notebookLogin false).
    c.IdentityProvider.token = ""
elif TOKEN.exists():
    c.IdentityProvider.token = TOKEN.read_text().strip()
else:
    c.IdentityProvider.token = ""
    c.PasswordIdentityProvider.hashed_password = passwd(PASSWORD.read_text().strip())
    c.PasswordIdentityProvider.password_required = True
