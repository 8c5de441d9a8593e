"""Jupyter's settings, mounted into the notebook's container as a Swarm config.

Two ways lead in. The notebook's own token or password always does. A request that carries the
front key comes from Caddy, which adds it once its own login has succeeded: then the user is who
Caddy says. What is missing opens nothing.
"""

import hmac
import json
import os
import secrets
from pathlib import Path

from jupyter_server.auth import passwd
from jupyter_server.auth.identity import PasswordIdentityProvider, User
from tornado.web import RequestHandler

c = get_config()  # noqa: F821  Jupyter provides it

SECRETS = Path("/run/secrets")
KEY_HEADER = "Proxy-Authorization"  # Caddy drops a client's own, and logs none


def secret(name: str) -> str:
    """Return the text of a Swarm secret, empty where the service has none of this name."""
    path = SECRETS / name
    return path.read_text().strip() if path.exists() else ""


# Kernels and terminals inherit them.
os.environ.update(json.loads(secret("dask_environment") or "{}"))

KEY = secret("front_key")
TOKEN = secret("notebook_token")
# Where both are missing, one that nobody knows.
PASSWORD = TOKEN or secret("notebook_password") or secrets.token_hex()


def same(given: str, expected: str) -> bool:
    """Tell in constant time whether both are equal; an empty one equals nothing."""
    return bool(expected) and hmac.compare_digest(given.encode(), expected.encode())


class FrontIdentityProvider(PasswordIdentityProvider):
    """Knows the front key beside the notebook's token or password.

    Jupyter's own `token` stays empty: JupyterLab would put it into its page and send it as the
    `Authorization` of each of its requests, in the place of what a login in front expects there.
    """

    async def get_user(self, handler: RequestHandler) -> User | None:
        """Return who asks: Caddy's user, or the owner of a token or a login cookie."""
        headers = handler.request.headers
        if same(headers.get(KEY_HEADER, ""), KEY):
            return User(username=headers.get("Remote-User") or "front")
        return await super().get_user(handler)

    async def get_user_token(self, handler: RequestHandler) -> User | None:
        """Return the user of a request with the notebook's token, None without it."""
        if not self.is_token_authenticated(handler):
            return None
        return self.get_user_cookie(handler) or self.generate_anonymous_user(handler)

    def is_token_authenticated(self, handler: RequestHandler) -> bool:
        """Tell whether a request carries the token, so that no other site can have made it.

        The front key is not enough. Browsers send a basic login along from any site's page, so
        Jupyter has to go on checking origins and XSRF tokens.
        """
        return same(self.get_token(handler) or "", TOKEN)

    def cookie_secret_hook(self, h: hmac.HMAC) -> hmac.HMAC:
        """End the sessions of an old token or password, but not at each start."""
        h.update(PASSWORD.encode())
        return h


c.ServerApp.identity_provider_class = FrontIdentityProvider
c.IdentityProvider.token = ""
# The form takes the token as well.
c.PasswordIdentityProvider.hashed_password = passwd(PASSWORD)
c.PasswordIdentityProvider.password_required = True
c.PasswordIdentityProvider.allow_password_change = False

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
