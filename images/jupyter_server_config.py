"""Jupyter's settings, mounted into the notebook's container as a Swarm config.

A request is let in for one of two reasons. It has the notebook's token or password. Or it has the
front key, which Caddy adds after its own login: then the user is the user of that login. A missing
secret lets no request in. The server does not listen on the cluster's network, where tasks are.
"""

import hmac
import json
import os
import secrets
import socket
from ipaddress import ip_address, ip_network
from itertools import chain
from pathlib import Path
from typing import Any

import psutil
from jupyter_server.auth import passwd
from jupyter_server.auth.identity import PasswordIdentityProvider, User
from tornado.ioloop import IOLoop
from tornado.web import RequestHandler

c = get_config()  # noqa: F821  Jupyter provides it

SECRETS = Path("/run/secrets")
SUBNETS = Path("/etc/dask-swarm/subnets.json")  # of the cluster's network, if Caddy has its own
KEY_HEADER = "Proxy-Authorization"  # Caddy drops a client's header, and does not log it


def read_secret(name: str) -> str:
    """Return the text of a Swarm secret, or an empty text if the service has no such secret."""
    path = SECRETS / name
    return path.read_text().strip() if path.exists() else ""


# Kernels and terminals inherit the variables.
os.environ.update(json.loads(read_secret("dask_environment") or "{}"))

KEY = read_secret("front_key")
TOKEN = read_secret("notebook_token")
# Without a token or password: a random password, which opens nothing.
PASSWORD = TOKEN or read_secret("notebook_password") or secrets.token_hex()


def is_equal(given: str, expected: str) -> bool:
    """Compare in constant time; an empty text equals nothing."""
    return bool(expected) and hmac.compare_digest(given.encode(), expected.encode())


def addresses() -> list[str]:
    """Return this container's addresses on all networks but the loopback and the cluster's."""
    subnets = json.loads(SUBNETS.read_text()) if SUBNETS.exists() else []
    hidden = [ip_network(text) for text in ("127.0.0.0/8", *subnets)]
    parts = chain.from_iterable(psutil.net_if_addrs().values())
    own = [part.address for part in parts if part.family == socket.AF_INET]
    return [address for address in own if not any(ip_address(address) in net for net in hidden)]


class IngressIdentityProvider(PasswordIdentityProvider):
    """Accepts the front key, and the notebook's token or password.

    Jupyter's own `token` stays empty: JupyterLab would put it into its page and send it as the
    `Authorization` header of its requests, and so replace the login of the ingress.
    """

    def validate_security(self, app: Any, ssl_options: dict[str, Any] | None = None) -> None:  # noqa: ANN401
        """Have the server listen on several addresses: its own setting has room for one."""
        super().validate_security(app, ssl_options)
        for address in addresses():
            IOLoop.current().add_callback(lambda to=address: app.http_server.listen(app.port, to))

    async def get_user(self, handler: RequestHandler) -> User | None:
        """Return Caddy's user, or the owner of a token or a login cookie."""
        headers = handler.request.headers
        if is_equal(headers.get(KEY_HEADER, ""), KEY):
            return User(username=headers.get("Remote-User") or "front")
        return await super().get_user(handler)

    async def get_user_token(self, handler: RequestHandler) -> User | None:
        """Return the user of a request with the notebook's token, None without it."""
        if not self.is_token_authenticated(handler):
            return None
        return self.get_user_cookie(handler) or self.generate_anonymous_user(handler)

    def is_token_authenticated(self, handler: RequestHandler) -> bool:
        """Return whether a request has the token, which proves that no other site made it.

        The front key proves less: browsers send a basic login with requests of any site's page, so
        Jupyter must still check origins and XSRF tokens.
        """
        return is_equal(self.get_token(handler) or "", TOKEN)

    def cookie_secret_hook(self, h: hmac.HMAC) -> hmac.HMAC:
        """End sessions when the token or password changes, but not at every start."""
        h.update(PASSWORD.encode())
        return h


c.ServerApp.identity_provider_class = IngressIdentityProvider
c.IdentityProvider.token = ""
# The login form accepts the token too.
c.PasswordIdentityProvider.hashed_password = passwd(PASSWORD)
c.PasswordIdentityProvider.password_required = True
c.PasswordIdentityProvider.allow_password_change = False

c.ServerApp.ip = "127.0.0.1"
c.ServerApp.allow_remote_access = True  # under any host name
c.ServerApp.port = 8888
c.ServerApp.port_retries = 0
c.ServerApp.open_browser = False
c.ServerApp.allow_unauthenticated_access = False
# Caddy passes on the client's address, the scheme https and the requested host name. Jupyter
# compares the origin of a request with this name, and allows no other origin.
c.ServerApp.trust_xheaders = True
# Proxies close a websocket that is silent for a minute.
c.ServerApp.websocket_ping_interval = 30
