"""Jupyter's settings, mounted into the notebook's container as a Swarm config."""

from pathlib import Path

from jupyter_server.auth import passwd

c = get_config()  # noqa: F821  Jupyter provides it

TOKEN = Path("/run/secrets/notebook_token")
PASSWORD = Path("/run/secrets/notebook_password")

c.ServerApp.ip = "0.0.0.0"  # noqa: S104  only Swarm networks lead here, no port is published
c.ServerApp.port = 8888
c.ServerApp.port_retries = 0
c.ServerApp.open_browser = False
c.ServerApp.allow_unauthenticated_access = False

if TOKEN.exists():
    c.IdentityProvider.token = TOKEN.read_text().strip()
else:
    c.IdentityProvider.token = ""
    c.PasswordIdentityProvider.hashed_password = passwd(PASSWORD.read_text().strip())
    c.PasswordIdentityProvider.password_required = True
