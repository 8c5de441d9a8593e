"""Prefect's server, which answers other networks than the cluster's only with the ingress's key.

Mounted into containers of any image as a Swarm config; uvicorn runs `create_guarded_app`. Prefect
has one port and, at most, one password for everybody. Work on the cluster's network needs no key.
Caddy adds the key to the requests of logged-in people. Everything else on Caddy's network gets
neither API nor page.

The guard goes by the address that a request comes from, not by the address that it was sent to: a
container can send packets for any address to this container, but answers go to the address that it
gives as its own.
"""

import hmac
import json
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from ipaddress import IPv4Network, ip_address
from pathlib import Path
from typing import Any

SUBNETS = Path("/etc/dask-swarm/subnets.json")  # of the cluster's network
KEY = Path("/run/secrets/prefect_key")  # if the stack has an ingress
ROUTES = Path("/proc/net/route")
REFUSAL = b"expected the key that Caddy adds after its login\n"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class Guard:
    """An ASGI application that passes on requests from `trusted` networks or with the `key`.

    Other requests get 403. An empty key opens nothing.
    """

    def __init__(self, app: App, trusted: Iterable[IPv4Network], key: bytes) -> None:
        self.app, self.trusted, self.key = app, list(trusted), key

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass on the request, or refuse it."""
        if scope["type"] == "lifespan" or self.is_trusted(scope) or self.has_key(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})  # before it is accepted: 403
        else:
            headers = [(b"content-type", b"text/plain")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": REFUSAL})

    def is_trusted(self, scope: Message) -> bool:
        """Return whether a request comes from a trusted network."""
        client = scope["client"]  # None once the connection is lost
        return bool(client) and any(ip_address(client[0]) in net for net in self.trusted)

    def has_key(self, scope: Message) -> bool:
        """Return whether a request has the key."""
        given = dict(scope["headers"]).get(b"proxy-authorization", b"")
        return bool(self.key) and hmac.compare_digest(given, self.key)


def create_guarded_app() -> Guard:
    """Return Prefect's server behind the guard."""
    from prefect.server.api.server import create_app  # type: ignore[import-not-found]

    key = KEY.read_bytes().strip() if KEY.exists() else b""
    return Guard(create_app(final=True), trusted_networks(), key)


def trusted_networks() -> list[IPv4Network]:
    """Return the cluster's network, this container and its node."""
    subnets = json.loads(SUBNETS.read_text(encoding="utf-8"))
    return [IPv4Network(text) for text in ("127.0.0.0/8", *subnets, *node_addresses())]


def node_addresses() -> list[str]:
    """Return the addresses of this container's node, which SSH tunnels come from."""
    routes = [line.split() for line in ROUTES.read_text(encoding="utf-8").splitlines()[1:]]
    gateways = [route[2] for route in routes if route[1] == "00000000"]
    return [socket.inet_ntoa(bytes.fromhex(gateway)[::-1]) for gateway in gateways]
